"""The built-in world: latent facts -> risks -> frames, title, OCR and speech; annotated by three pipelines."""

"""Backbones and the RADAR router on top of them.

`backbones` lists the seven and loads any; `checkpoints` finds their files and says whether they are fit to load. What a
family does (prompt, visual tokens, tower, pooling) is stated by its class: `base` what all share, `causal` the decoder
families, `families` each of them, `siglip` the dual encoder; `attention` and `packing` are the same numbers in less
time, `lora` the adapter folded into the weights, and `last_layer` the last one without what nothing reads. `router` is
RadarRouter: adapter, MLP and heads, saved and loaded.
"""

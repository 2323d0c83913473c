"""RadarRouter: what it computes, what it trains, how it is saved, and that it leaves its backbone as it was."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft.tuners.lora import Linear as LoraLinear

from radar_lib.errors import RadarError
from radar_lib.files import read_sealed, write_sealed
from radar_lib.models.backbones import load_backbone
from radar_lib.models.router import RadarRouter, RouterConfig
from radar_suite.world.standins.geometry import GEOMETRIES

NAMES = tuple(GEOMETRIES)
THREE = RouterConfig(("LQC", "RCS", "FE"), lora_rank=4, lora_alpha=8)


@pytest.fixture
def borrow(loaded):
    """A router on a shared backbone, taken off again when the test ends."""
    routers = []

    def make(name, config=THREE, **options):
        routers.append(RadarRouter(loaded(name), config, **options))
        return routers[-1]

    yield make
    for router in routers:
        router.detach()


def state_of(router):
    return {name: p.detach().clone() for name, p in router.named_parameters() if p.requires_grad}


def disturb(router, seed=3):
    """Stand for training: every trained parameter moves."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in router.trainable_parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


@torch.no_grad()
def logits(router, posts):
    return router(router.backbone.collate(router.backbone.encode(posts)))


@pytest.mark.parametrize("k", [1, 3, 7])
def test_one_float32_logit_per_risk_from_a_head_of_its_own(borrow, awkward_posts, k):
    router = borrow("qwen3-vl-2b", RouterConfig(tuple(f"risk{i}" for i in range(k)), lora_rank=2))
    before = logits(router, awkward_posts)
    assert before.shape == (len(awkward_posts), k) and before.dtype == torch.float32
    with torch.no_grad():
        router.heads[-1].bias += 1
    after = logits(router, awkward_posts)
    assert torch.equal(after[:, :-1], before[:, :-1]) and (after[:, -1] != before[:, -1]).all()


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_lora_and_heads_and_nothing_else(borrow, awkward_posts, name):
    router = borrow(name).train()
    disturb(router)  # LoRA's B starts at zero, which would hide its A from the loss
    frozen = {n: p.clone() for n, p in router.named_parameters() if not p.requires_grad}
    router(router.backbone.collate(router.backbone.encode(awkward_posts))).square().sum().backward()
    trained = [n for n, p in router.named_parameters() if p.requires_grad]
    # the last decoder layer's state is read at one token only, but all of its linear layers take part in that
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in router.trainable_parameters())
    assert all("lora_" in n or n.startswith(("mlp.", "heads.")) or n.endswith("no_frames") for n in trained)
    assert all(p.grad is None and torch.equal(p, frozen[n]) for n, p in router.named_parameters() if n in frozen)
    router.zero_grad()
    router.eval()


@pytest.mark.parametrize("name", NAMES)
def test_lora_sits_on_the_language_models_linear_layers(borrow, name):
    router = borrow(name)
    adapted = {n.split(".lora_A")[0] for n, p in router.named_parameters() if "lora_A" in n}
    layers = 2  # of every tiny geometry
    if name == "siglip2":
        assert len(adapted) == 2 * 6 * layers and {n.split(".")[2] for n in adapted} == {"text_model", "vision_model"}
    else:
        assert len(adapted) == 7 * layers and all("language_model" in n for n in adapted)


@pytest.mark.parametrize("name", NAMES)
def test_folded_adapters_are_pefts_own_up_to_rounding(borrow, awkward_posts, name):
    """Logits and every gradient, as peft computes them layer by layer."""
    router = borrow(name).train()
    disturb(router)
    batch, found = router.backbone.collate(router.backbone.encode(awkward_posts)), []
    folded = [m for m in router.modules() if isinstance(m, LoraLinear) and "forward" in vars(m)]
    for _ in range(2):
        router.zero_grad()
        out = router(batch)
        out.square().sum().backward()
        found.append([out.detach(), *(p.grad.clone() for p in router.trainable_parameters())])
        for layer in folded:
            vars(layer).pop("forward", None)
    assert folded
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()) + 1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_taking_a_router_off_restores_the_backbone_bit_for_bit(loaded, awkward_posts, name):
    backbone = loaded(name)
    encoded = backbone.encode(awkward_posts)
    weights = {n: p.clone() for n, p in backbone.named_parameters()}
    modules = [n for n, _ in backbone.named_modules()]
    with torch.no_grad():
        before = backbone(backbone.collate(encoded))
    router = RadarRouter(backbone, THREE)
    disturb(router)
    with torch.no_grad():
        assert not torch.equal(backbone(backbone.collate(encoded)), before)
    assert router.detach() is backbone and router.detach() is backbone
    with torch.no_grad():
        assert torch.equal(backbone(backbone.collate(encoded)), before)
    assert [n for n, _ in backbone.named_modules()] == modules
    assert all(torch.equal(p, weights[n]) and not p.requires_grad for n, p in backbone.named_parameters())
    RadarRouter(backbone, THREE).detach()  # and it can carry the next one


def test_what_a_router_needs(borrow):
    with pytest.raises(RadarError, match="already carries a router"):
        RadarRouter(borrow("qwen3-vl-2b").backbone, THREE)
    with pytest.raises(RadarError, match="at least one category"):
        RouterConfig(())


def test_the_seed_decides_the_initialisation_and_leaves_the_global_generator_alone(loaded):
    backbone = loaded("qwen3-vl-2b")
    states = []
    for seed in (1, 1, 2):
        router = RadarRouter(backbone, THREE, seed=seed)
        states.append(state_of(router))
        router.detach()
    same = [all(torch.equal(states[0][n], state[n]) for n in states[0]) for state in states[1:]]
    assert same == [True, False]
    torch.manual_seed(77)
    expected = torch.rand(3)
    torch.manual_seed(77)
    RadarRouter(backbone, THREE, seed=5).detach()
    assert torch.equal(torch.rand(3), expected)


def test_prior_starts_the_heads_at_its_log_odds(borrow):
    router = borrow("qwen3-vl-2b", prior=(0.5, 0.1, 0.01))
    biases = [head.bias.item() for head in router.heads]
    np.testing.assert_allclose(biases, np.log([1.0, 1 / 9, 1 / 99]), rtol=1e-5, atol=1e-7)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks for it by its old name
@pytest.mark.parametrize("vision", [False, True])
@pytest.mark.parametrize("name", ["qwen3-vl-4b", "llava-ov-1.5-4b", "gemma3-4b", "siglip2"])
def test_saved_and_loaded_it_gives_the_same_logits_and_its_adapter_loads_in_plain_peft(
    checkpoints, awkward_posts, tmp_path, name, vision
):
    from peft import PeftConfig, PeftModel

    config = replace(THREE, lora_vision=vision)
    router = RadarRouter(load_backbone(checkpoints / name), config).eval()
    disturb(router)
    expected = logits(router, awkward_posts)
    router.save_pretrained(tmp_path / "router")
    assert {p.name for p in (tmp_path / "router").iterdir()} == {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "heads.safetensors", "router_config.json",
    }  # fmt: skip
    again = RadarRouter.from_pretrained(tmp_path / "router").eval()
    assert again.config == config and torch.equal(logits(again, awkward_posts), expected)
    plain = load_backbone(checkpoints / name)
    PeftModel.from_pretrained(plain.model, str(tmp_path / "router"))
    posts = [post for post in awkward_posts if post["frames"]]  # the vector for none is the heads', not the adapter's
    batch = plain.collate(plain.encode(posts))
    with torch.no_grad():
        torch.testing.assert_close(plain(batch), router.backbone(batch), rtol=1e-4, atol=1e-5)
    assert PeftConfig.from_pretrained(str(tmp_path / "router")).base_model_name_or_path == str(checkpoints / name)
    given = RadarRouter.from_pretrained(tmp_path / "router", backbone=router.detach()).eval()
    assert torch.equal(logits(given, awkward_posts), expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_posts_score_does_not_depend_on_its_batch(borrow, awkward_posts, make_frame, name):
    """Batch size 1 and 8, other neighbours in another order, padding left and right: at most 1e-4 between them."""
    router = borrow(name).eval()
    disturb(router)  # LoRA's B and the heads away from zero
    frames = [make_frame(40 + i) for i in range(5)]  # texts from none to too long, zero to five frames
    posts = [*awkward_posts, awkward_posts[3] | {"frames": frames}, awkward_posts[5] | {"frames": frames[:1]}]
    order = [5, 0, 6, 2]
    scores = {}
    for side in ("right", "left"):
        router.backbone.padding_side = side
        try:
            scores[f"{side}, 8"] = logits(router, posts)
            scores[f"{side}, 1"] = torch.cat([logits(router, [post]) for post in posts])
            some = logits(router, [posts[i] for i in order])
        finally:
            router.backbone.padding_side = "right"
        scores[f"{side}, neighbours"] = scores["right, 8"].index_copy(0, torch.tensor(order), some)
    frameless = logits(router, [posts[0], posts[2]])  # such a batch needs no tower
    scores["frameless"] = scores["right, 8"].index_copy(0, torch.tensor([0, 2]), frameless)
    spread = torch.stack(list(scores.values()))
    assert (spread.amax(0) - spread.amin(0)).max() <= 1e-4
    assert (spread[0].amax(0) - spread[0].amin(0)).min() > 0.01  # and the scores are not all alike


@pytest.mark.parametrize("name", [name for name in NAMES if name != "siglip2"])
def test_the_vision_tower_is_adapted_by_option_and_its_output_then_not_cached(loaded, awkward_posts, name):
    backbone = loaded(name)
    encoded = backbone.encode(awkward_posts)
    cached = backbone.cache_features(encoded)
    tower = backbone.model.get_submodule(backbone.vision_module)
    router = RadarRouter(backbone, replace(THREE, lora_vision=True)).train()
    try:
        disturb(router)
        adapted = [n for n, p in tower.named_parameters() if "lora_A" in n]
        linear = 4 if name.startswith("qwen") else 6
        assert len(adapted) == 2 * linear and tower.training and not backbone.features_cacheable
        assert backbone.cache_features(encoded) == encoded
        with pytest.raises(RadarError, match="adapts the vision tower"):
            router(backbone.collate(cached))
        router(backbone.collate(encoded)).square().sum().backward()
        reached = [n for n, p in tower.named_parameters() if "lora" in n and p.grad is not None and p.grad.any()]
        # LLaVA's tower is read before its last norm, the whole of it all the same
        assert len(reached) == 2 * len(adapted)
    finally:
        router.zero_grad()
        router.eval().detach()
    assert backbone.features_cacheable and not any("lora" in n for n, _ in tower.named_parameters())


def test_a_router_is_refused_on_another_base_or_when_incomplete(checkpoints, tmp_path, monkeypatch):
    router = RadarRouter(load_backbone(checkpoints / "qwen3-vl-4b"), THREE)
    folder, config = tmp_path / "router", tmp_path / "router" / "router_config.json"
    router.save_pretrained(folder)
    with pytest.raises(RadarError, match="was trained on .*qwen3-vl-4b.*not on .*qwen3-vl-2b"):
        RadarRouter.from_pretrained(folder, backbone=load_backbone(checkpoints / "qwen3-vl-2b"))
    saved = read_sealed(config)
    base = router.detach()

    with monkeypatch.context() as patch:  # by its digest, before any weight is read
        patch.setattr("radar_lib.models.backbones.load_backbone", None)
        other = saved["base"] | {"checkpoint": str(checkpoints / "qwen3-vl-2b")}
        write_sealed(config, saved | {"base": other})
        with pytest.raises(RadarError, match="was trained on .*qwen3-vl-2b.*Load that base, or train again"):
            RadarRouter.from_pretrained(folder)
    for change in ({"categories": ["A"]}, {"lora_rank": 2}):
        write_sealed(config, saved | change)
        with pytest.raises(RadarError, match="do not fit"):
            RadarRouter.from_pretrained(folder, backbone=base)
    write_sealed(config, saved)
    assert RadarRouter.from_pretrained(folder, backbone=base).detach() is base  # what was refused has left no trace
    adapter = folder / "adapter_model.safetensors"
    adapter.write_bytes(adapter.read_bytes()[:-8])
    with pytest.raises(RadarError, match=r"adapter_model.safetensors has .* bytes, its header speaks of"):
        RadarRouter.from_pretrained(folder, backbone=base)
    (folder / "heads.safetensors").unlink()
    with pytest.raises(RadarError, match=r"heads.safetensors is missing"):
        RadarRouter.from_pretrained(folder)


def test_weights_that_are_not_finite_and_absurd_sizes_are_refused(checkpoints, tmp_path):
    router = RadarRouter(load_backbone(checkpoints / "qwen3-vl-4b"), THREE)
    with torch.no_grad():
        router.heads[1].bias[0] = torch.nan
    router.save_pretrained(tmp_path / "router")
    base = router.detach()
    with pytest.raises(RadarError, match=r"heads.1.bias has weights that are not finite"):
        RadarRouter.from_pretrained(tmp_path / "router", backbone=base)
    config = tmp_path / "router" / "router_config.json"
    config.write_text(config.read_text().replace('"LQC"', '"X"').replace('"RCS"', '"LQC"').replace('"X"', '"RCS"'))
    with pytest.raises(RadarError, match="is not what was written"):  # columns that changed places
        RadarRouter.from_pretrained(tmp_path / "router", backbone=base)
    for change in ({"lora_rank": 0}, {"lora_rank": 10**9}, {"lora_alpha": float("inf")}, {"mlp_hidden": -1},
                   {"mlp_dropout": 1.5}, {"categories": ("A", "A")}):  # fmt: skip
        with pytest.raises(RadarError):
            replace(THREE, **change)


def test_heads_stay_float32_on_a_half_precision_backbone(checkpoints, awkward_posts):
    router = RadarRouter(load_backbone(checkpoints / "qwen3-vl-2b", dtype=torch.bfloat16), THREE)
    assert {p.dtype for p in router.mlp.parameters()} | {p.dtype for p in router.heads.parameters()} == {torch.float32}
    assert logits(router, awkward_posts).dtype == torch.float32


@pytest.mark.parametrize(
    "changes",
    [{"categories": ["FE", "RCS", "LQC"]}, {"categories": ["LQC", "RCS", "RCS"]}, {"categories": "LQC"},
     {"lora_alpha": 8000}, {"lora_alpha": -1}, {"lora_alpha": "8"}, {"lora_rank": 10**9}, {"lora_rank": 0},
     {"lora_dropout": 1.5}, {"mlp_hidden": -4}, {"lora_vision": "no"}, {"colour": 1}, {"base": None}],
)  # fmt: skip
def test_a_configuration_that_was_edited_does_not_load(loaded, tmp_path, changes):
    """Reordered names give every score to another risk, another alpha scales the adapter: both fit the weights."""
    router = RadarRouter(loaded("qwen3-vl-2b"), THREE)
    router.save_pretrained(tmp_path / "router")
    base, config = router.detach(), tmp_path / "router" / "router_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    with pytest.raises(RadarError, match=r"router_config\.json"):
        RadarRouter.from_pretrained(tmp_path / "router", backbone=base).detach()


@pytest.mark.parametrize("changes", [{"r": 8}, {"lora_alpha": 800}, {"target_modules": ["q_proj"]}])
def test_an_adapters_own_configuration_that_was_edited_does_not_load(loaded, tmp_path, changes):
    """Plain peft would build another model from it than the router that was scored."""
    router = RadarRouter(loaded("qwen3-vl-2b"), THREE)
    router.save_pretrained(tmp_path / "router")
    base, config = router.detach(), tmp_path / "router" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    with pytest.raises(RadarError, match=r"adapter_config\.json is not what was written"):
        RadarRouter.from_pretrained(tmp_path / "router", backbone=base).detach()
    config.unlink()
    with pytest.raises(RadarError, match=r"adapter_config\.json is missing"):
        RadarRouter.from_pretrained(tmp_path / "router", backbone=base).detach()


@pytest.mark.parametrize("categories", [5, None, [1], []])
def test_categories_that_are_no_names_are_one_error(categories):
    with pytest.raises(RadarError, match="categor"):
        RouterConfig(categories)

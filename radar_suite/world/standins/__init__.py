"""Stand-ins for the paper's seven checkpoints: committed folders, and the recipe that makes them."""

from pathlib import Path

from radar_lib.models.backbones import BACKBONES, BackboneSpec, resolve_checkpoint

FOLDER = Path(__file__).parent
WORD = "standins"  # what a profile calls them


def locate_checkpoints(word: str) -> str:
    """The library's `checkpoints` for a profile's: 'standins' is this package, all else stands for itself."""
    return f"package:{__name__}" if word == WORD else word


def named_checkpoint(name: str) -> str:
    """Folder or Hub id of a checkpoint as a command takes it: one of these, `standin:NAME`, or a name as in Table 1."""
    if name.startswith("standin:"):
        return f"{locate_checkpoints(WORD)}/{name.removeprefix('standin:')}"
    return resolve_checkpoint(BACKBONES[name], "hub") if name in BACKBONES else name


def resolve(spec: BackboneSpec, word: str) -> str:
    """`resolve_checkpoint` for a profile's word."""
    return resolve_checkpoint(spec, locate_checkpoints(word))

"""CLIP models by name: open_clip's architecture, filled with the weights of a tag, a file or a folder.

Every fault ends in a ValueError that names what was found and what to do. Nothing is fetched unless a tag asks for it.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import logging
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clip_core import shipped
from clip_core.bpe_subset import MERGES_FILE

RANDOM = "random"
"""In place of a tag: untrained weights, for tests and for training from nothing."""
LOCAL_DIR, CONFIG_FILE = "local-dir:", "open_clip_config.json"
"""Before the name of a folder as open_clip saves a model; the file in it that tells the architecture."""
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
_PREPROCESS = ("mean", "std", "interpolation", "resize_mode")
_OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")  # entries of OpenAI's archives beside the weights


@dataclass(frozen=True)
class ClipSource:
    """Where a model and its weights come from, resolved: what `resolve` found out, what `build` needs."""

    model: str
    """Name of open_clip, or `local-dir:FOLDER`."""
    pretrained: str | None
    """Tag of the weights, `random`, or None for a file of unknown training."""
    weights: Path | None
    """Weights file; None for `random`."""
    quick_gelu: bool
    """Whether the weights were trained with the fast approximation of GELU, as OpenAI's were."""
    config: Mapping[str, Any]
    """Architecture: `embed_dim`, `vision_cfg`, `text_cfg`."""
    preprocess: Mapping[str, Any]
    """What the folder or the tag says of preprocessing; may be empty."""
    folder: Path | None = None
    """Folder of the architecture, as open_clip saves it; None for a name of open_clip."""

    @property
    def address(self) -> str:
        """What open_clip calls the model."""
        return self.model if self.folder is None else f"{LOCAL_DIR}{self.folder}"

    @property
    def tokenizer_options(self) -> dict[str, Any]:
        """For `open_clip.get_tokenizer`: the merges of the folder, where it has its own."""
        merges = None if self.folder is None else self.folder / MERGES_FILE
        return {} if merges is None or not merges.is_file() else {"bpe_path": str(merges)}


def resolve(model: str, pretrained: str | None = None, weights: Path | str | None = None) -> ClipSource:
    """Finds architecture and weights file; a tag without `weights` is taken from open_clip's cache or fetched.

    model: a name of `open_clip.list_models()`, `local-dir:FOLDER` (open_clip_config.json and weights), or
        `clipnav-houses`, the small model of the package, whose tag is `embedded`.
    pretrained: tag of the weights, or `random`. With `weights`, the tag that the file holds: it decides on quick-GELU
        and preprocessing. The path of a file is understood too, as in open_clip.
    Raises ValueError for a name, tag, folder or file that does not exist, and for a tag that cannot be fetched.
    """
    if model.startswith(LOCAL_DIR):
        return _resolve_folder(model, pretrained, weights)
    if model == shipped.MODEL:
        return _resolve_shipped(pretrained, weights)
    name, config = _known_model(model)
    if pretrained is not None and weights is None and Path(pretrained).suffix in SUFFIXES:
        pretrained, weights = None, pretrained
    if pretrained is None and weights is None:
        raise ValueError(
            f"no weights are named for {name}; expected a tag ({_tags(name)}), a weights file, or pretrained={RANDOM!r}"
        )
    tag = {} if pretrained in (None, RANDOM) else _known_tag(name, str(pretrained))
    if weights is None and pretrained != RANDOM:
        weights = _fetch(name, str(pretrained), tag)
    path = None if weights is None else _existing(Path(weights))
    quick = bool(config.get("quick_gelu") or tag.get("quick_gelu") or (path is not None and _is_openai_archive(path)))
    preprocess: dict[str, Any] = {key: tag[key] for key in _PREPROCESS if key in tag}
    return ClipSource(name, pretrained, path, quick, config, preprocess)


def build(source: ClipSource) -> nn.Module:
    """The model of open_clip on the CPU in float32, in evaluation mode, with the weights of the source.

    Raises ValueError that names the first misfits if the weights are those of another architecture, and for a file that
    is damaged or holds no weights.
    """
    import open_clip

    state = None if source.weights is None else read_weights(source.weights)
    with _quiet():
        try:
            model = open_clip.create_model(
                source.address, load_weights=False, pretrained_text=False, force_quick_gelu=source.quick_gelu
            )
        except (OSError, RuntimeError, TypeError, AssertionError) as error:
            raise ValueError(f"{source.model} cannot be built by open_clip: {first_line(error)}") from error
        if state is not None:
            _fill(model, state, source)
    return model.eval()


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a weights file by name: safetensors, a checkpoint of torch, or OpenAI's TorchScript archive.

    No code of a file is run: checkpoints are read with `weights_only=True`. Raises ValueError for anything else.
    """
    from open_clip.factory import load_state_dict

    try:
        if _is_torchscript(path):
            with warnings.catch_warnings():  # torch.jit.load is deprecated; OpenAI's archives have no other reader
                warnings.simplefilter("ignore", FutureWarning)
                state = torch.jit.load(path, map_location="cpu").state_dict()
        else:
            state = load_state_dict(str(path), weights_only=True)
    except Exception as error:  # a damaged file leads the readers to errors of every kind
        raise ValueError(
            f"{path} is no weights file that can be read ({first_line(error)}); expected safetensors or a state dict "
            "of torch, whole: download it again"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no state dict; expected tensors by name, or a dict with the key state_dict")
    return {key: value for key, value in state.items() if key not in _OPENAI_EXTRAS}


def file_sha256(path: Path) -> str:
    """Hash of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _resolve_folder(model: str, pretrained: str | None, weights: Path | str | None) -> ClipSource:
    """Architecture and weights of a folder as open_clip writes it; `pretrained` only says what they are."""
    from open_clip.factory import _find_checkpoint_in_dir

    folder = Path(model.removeprefix(LOCAL_DIR))
    path = folder / CONFIG_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        config = content["model_cfg"]
        missing = [key for key in ("embed_dim", "vision_cfg", "text_cfg") if key not in config]
    except OSError:
        raise ValueError(f"no {path.name} in {folder}; expected the folder of a model as open_clip saves it") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged or has no model_cfg ({error!r})") from None
    if missing:
        raise ValueError(f"{path}: model_cfg lacks {', '.join(missing)}")
    if weights is None and pretrained != RANDOM:
        with _quiet():
            weights = _find_checkpoint_in_dir(folder)
        if weights is None:
            raise ValueError(f"{folder} has no weights (*.safetensors, *.bin, *.pth); copy the file into it")
    found = None if weights is None else _existing(Path(weights))
    quick = bool(config.get("quick_gelu") or pretrained == "openai")
    return ClipSource(model, pretrained, found, quick, config, content.get("preprocess_cfg") or {}, folder)


def _resolve_shipped(pretrained: str | None, weights: Path | str | None) -> ClipSource:
    """The package's own model: its own weights, checksum compared, or others of its architecture."""
    if pretrained not in (None, RANDOM, shipped.TAG) and weights is None:
        raise ValueError(f"{shipped.MODEL} has no weights {pretrained!r}; expected {shipped.TAG} or {RANDOM}")
    if weights is None and pretrained != RANDOM:
        pretrained, weights = shipped.TAG, shipped.shipped_weights()
    source = _resolve_folder(f"{LOCAL_DIR}{shipped.FOLDER}", pretrained, weights)
    return dataclasses.replace(source, model=shipped.MODEL)


def _known_model(model: str) -> tuple[str, dict[str, Any]]:
    """Name without slashes and architecture of a model of open_clip."""
    import open_clip

    name = model.replace("/", "-")
    if name in open_clip.list_models():
        return name, open_clip.get_model_config(name)
    if model.startswith("hf-hub:"):
        raise ValueError(
            f"{model}: models are not fetched by repository; download it (hf download {model[7:]} --local-dir FOLDER), "
            f"then name it {LOCAL_DIR}FOLDER"
        )
    lower = {known.lower(): known for known in open_clip.list_models()}
    near = difflib.get_close_matches(name.lower(), lower, n=5, cutoff=0.6)
    hint = f"; near are {', '.join(lower[known] for known in near)}" if near else ""
    raise ValueError(
        f"open_clip knows no model {model!r}{hint}; expected one of its {len(lower)} names (open_clip.list_models()) "
        f"or {LOCAL_DIR}FOLDER"
    )


def _known_tag(name: str, tag: str) -> dict[str, Any]:
    """What open_clip knows of a tag; the variants of a model with and without `-quickgelu` share their tags."""
    import open_clip

    plain = name.removesuffix("-quickgelu")
    for variant in (name, plain, f"{plain}-quickgelu"):
        if found := open_clip.get_pretrained_cfg(variant, tag):
            return found
    raise ValueError(
        f"{name} has no weights {tag!r}; expected one of {_tags(name)}, {RANDOM}, or a weights file "
        f"({', '.join(SUFFIXES)})"
    )


def _tags(name: str) -> str:
    """Tags of a model for a message."""
    import open_clip

    plain = name.removesuffix("-quickgelu")
    tags = [tag for known in (plain, f"{plain}-quickgelu") for tag in open_clip.list_pretrained_tags_by_model(known)]
    return ", ".join(dict.fromkeys(tags)) or "no tag is known"


def _fetch(name: str, tag: str, known: Mapping[str, Any]) -> Path:
    """Weights file of a tag from the cache or the network."""
    import open_clip
    from huggingface_hub import constants

    repository, url = str(known.get("hf_hub", "")), str(known.get("url", ""))
    try:
        if constants.HF_HUB_OFFLINE and not repository:
            raise OSError("HF_HUB_OFFLINE forbids the network")
        return Path(open_clip.download_pretrained(dict(known)))
    except (OSError, RuntimeError) as error:
        folder, _, file = repository.rpartition("/")
        how = f"hf download {folder} {file or 'open_clip_model.safetensors'}" if repository else f"curl -LO {url}"
        raise ValueError(
            f"the weights {tag!r} of {name} are not on this machine and could not be fetched ({first_line(error)}); "
            f"where there is a network: {how}; then name that file as weights, with pretrained={tag!r}"
        ) from error


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"no weights file at {path}; expected {', '.join(SUFFIXES)}")
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path} has the suffix {path.suffix!r}; expected a weights file, {', '.join(SUFFIXES)}")
    return path


def _is_torchscript(path: Path) -> bool:
    """Whether a file is an archive of TorchScript, told by the constants of its code."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _is_openai_archive(path: Path) -> bool:
    """Whether a file is one that OpenAI published: TorchScript that knows its input resolution."""
    if not _is_torchscript(path):
        return False
    with warnings.catch_warnings():  # see read_weights
        warnings.simplefilter("ignore", FutureWarning)
        return "input_resolution" in torch.jit.load(path, map_location="cpu").state_dict()


def _fill(model: nn.Module, state: dict[str, torch.Tensor], source: ClipSource) -> None:
    """Loads a state dict after open_clip's conversions of names; every tensor must be there in its own shape.

    open_clip resizes positional embeddings of another length while it loads; here they are a misfit, because weights
    of another resolution belong to another name, and the encoder interpolates for the size of its input.
    """
    import open_clip
    from open_clip.convert import convert_state_dict

    state = convert_state_dict(model, state)
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = open_clip.convert_to_custom_text_state_dict(state)
    expected = model.state_dict()
    for name in ("logit_scale", "logit_bias"):
        if name in state and name in expected and state[name].numel() == expected[name].numel():
            state[name] = state[name].reshape(expected[name].shape)
    state.pop("text.transformer.embeddings.position_ids", None)
    misfits = [f"{name} is missing" for name in expected if name not in state]
    misfits += [
        f"{name} is {tuple(state[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    misfits += [f"{name} is unknown" for name in state if name not in expected]
    if misfits:
        shown = "; ".join(misfits[:5]) + ("; ..." if len(misfits) > 5 else "")
        if any(name.startswith("vision_model.") for name in state):
            shown = f"its names are those of transformers; expected a file of open_clip. {shown}"
        raise ValueError(
            f"{source.weights} does not fit {source.model} ({len(misfits)} of {len(expected)} tensors): {shown}; "
            "expected the name of the model whose weights these are"
        )
    model.load_state_dict(state)


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip logs that a model without weights is random, after it set up the root logger: neither is wanted."""
    root, silent = logging.getLogger(), logging.NullHandler()
    before = root.level
    root.addHandler(silent)
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
        root.removeHandler(silent)


def first_line(error: BaseException) -> str:
    """First line of an error of another library, for a message."""
    return (str(error) or repr(error)).strip().splitlines()[0].rstrip(".")[:300]

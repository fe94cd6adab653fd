"""Where weights come from: names, tags, files, folders; every fault says what was found and what to do."""

import json
import pickle

import open_clip
import pytest
import torch
from clip_toy import RN, TEXT, VIT, make_folder
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from clip_core.clip_weights import build, read_weights, resolve
from clip_core.encoder import ClipEncoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "vit"
    make_folder(path, "vit")
    return path


@pytest.fixture(scope="module")
def weights(folder):
    return folder / "open_clip_model.safetensors"


@pytest.fixture
def named(folder, monkeypatch):
    """The tiny ViT under a name of open_clip's list, with one tag."""
    from open_clip import factory, pretrained

    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny-vit", {**VIT, "text_cfg": TEXT})
    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny-rn", {**RN, "text_cfg": TEXT})
    tag = {"hf_hub": "someone/tiny/", "quick_gelu": True, "mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny-vit", {"openai": tag})
    return "tiny-vit"


def vector(encoder):
    with torch.no_grad():
        return encoder.image_vectors(torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64))


def test_a_file_in_every_form_gives_the_same_encoder(named, weights, tmp_path):
    state = load_file(weights)
    torch.save(state, tmp_path / "plain.pt")
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "run.pt"
    )
    torch.save({key: value.half() for key, value in state.items()}, tmp_path / "half.bin")
    expected = vector(ClipEncoder.load(named, weights=weights))
    for name in ("plain.pt", "run.pt"):
        assert torch.equal(vector(ClipEncoder.load(named, weights=tmp_path / name)), expected)
    assert torch.equal(vector(ClipEncoder.load(named, str(weights))), expected)  # as open_clip takes a path
    half = vector(ClipEncoder.load(named, weights=tmp_path / "half.bin"))
    assert 0 < (half - expected).abs().max() < 0.05
    assert half.dtype == torch.float32


def test_openai_weights_get_quick_gelu_unasked(named, folder, weights):
    theirs = open_clip.create_model(f"local-dir:{folder}", force_quick_gelu=True).eval().requires_grad_(False)
    plain = vector(ClipEncoder.load(named, weights=weights))
    for name in (named, f"local-dir:{folder}"):
        encoder = ClipEncoder.load(name, "openai", weights)
        assert torch.equal(
            vector(encoder), theirs.encode_image(torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64))
        )
        assert (vector(encoder) - plain).abs().max() > 1e-3
        assert encoder.record.pretrained == "openai"
    assert ClipEncoder.load(named, "openai", weights).transform.std == (0.2, 0.2, 0.2)
    for model, tag, quick in [
        ("ViT-B-32", "openai", True),
        ("ViT-B/32", "openai", True),
        ("ViT-B-32-quickgelu", "openai", True),
        ("RN50", "openai", True),
        ("ViT-B-32", "metaclip_400m", True),
        ("ViT-B-32", "laion2b_s34b_b79k", False),
        ("ViT-B-32", None, False),
    ]:
        assert resolve(model, tag, weights).quick_gelu is quick, (model, tag)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")  # the archive that OpenAI published is TorchScript
def test_openai_archives_are_read_and_known(named, weights, tmp_path):
    class Node(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    root = Node()
    for name, value in {**load_file(weights), "input_resolution": torch.tensor(64)}.items():
        *path, leaf = name.split(".")
        node = root
        for part in path:
            if not hasattr(node, part):
                node.add_module(part, Node())
            node = getattr(node, part)
        node.register_buffer(leaf, value)
    torch.jit.script(root).save(tmp_path / "tiny.pt")
    source = resolve(named, weights=tmp_path / "tiny.pt")
    assert source.quick_gelu
    assert torch.equal(vector(ClipEncoder(build(source), source)), vector(ClipEncoder.load(named, "openai", weights)))


def test_a_tag_is_taken_from_the_cache_or_the_way_to_it_is_told(named, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"'openai' of tiny-vit are not on this machine.*hf download someone/tiny "):
        resolve(named, "openai")
    snapshot = tmp_path / "models--someone--tiny" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "open_clip_model.safetensors").symlink_to(weights)
    (tmp_path / "models--someone--tiny" / "refs").mkdir()
    (tmp_path / "models--someone--tiny" / "refs" / "main").write_text("abc")
    encoder = ClipEncoder.load(named, "openai")
    assert torch.equal(vector(encoder), vector(ClipEncoder.load(named, "openai", weights)))
    assert encoder.record == ClipEncoder.load(named, "openai", weights).record


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ViT-B32",), "knows no model 'ViT-B32'; near are ViT-B-32, .*list_models"),
        (("hf-hub:someone/model",), "hf download someone/model --local-dir FOLDER.*local-dir:FOLDER"),
        (
            ("ViT-B-32",),
            "no weights are named for ViT-B-32; expected a tag .openai, laion400m_e31.*pretrained='random'",
        ),
        (("ViT-B-32", "opnai"), "has no weights 'opnai'; expected one of openai, laion400m_e31"),
        (("ViT-B-32", None, "absent.safetensors"), "no weights file at absent.safetensors"),
        (("ViT-B-32", "absent.pt"), "no weights file at absent.pt"),
        (("ViT-B-32", None, __file__), "has the suffix '.py'; expected a weights file"),
        (("local-dir:absent",), "no open_clip_config.json in absent"),
    ],
)
def test_names_that_do_not_exist(arguments, message):
    with pytest.raises(ValueError, match=message):
        resolve(*arguments)


def test_faulty_folders(tmp_path):
    for content, message in [("{", "is damaged"), ("{}", "has no model_cfg"), ('{"model_cfg": {}}', "lacks embed_dim")]:
        (tmp_path / "open_clip_config.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            resolve(f"local-dir:{tmp_path}")
    make_folder(tmp_path / "bare", "vit")
    (tmp_path / "bare" / "open_clip_model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"bare has no weights"):
        resolve(f"local-dir:{tmp_path / 'bare'}")
    config = {"model_cfg": {"embed_dim": 24, "vision_cfg": {"color": "red"}, "text_cfg": TEXT}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"cannot be built by open_clip: .*color"):
        ClipEncoder.load(f"local-dir:{tmp_path}", "random")


def test_weights_of_another_architecture_are_named(named, weights, tmp_path):
    with pytest.raises(ValueError, match=r"does not fit tiny-rn \(\d+ of \d+ tensors\): visual.* is missing; .*\.\.\."):
        ClipEncoder.load("tiny-rn", weights=weights)
    state = load_file(weights)
    state["visual.proj"] = state["visual.proj"][:, :8].contiguous()
    state["head.weight"] = torch.zeros(2)
    save_file(state, tmp_path / "wrong.safetensors")
    message = r"\(2 of \d+ tensors\): visual.proj is \(48, 8\), expected \(48, 24\); head.weight is unknown; expected"
    with pytest.raises(ValueError, match=message):
        ClipEncoder.load(named, weights=tmp_path / "wrong.safetensors")
    state = load_file(weights)  # another resolution is another model: nothing is interpolated unnoticed
    state["visual.positional_embedding"] = torch.zeros(50, 48)
    save_file(state, tmp_path / "size.safetensors")
    with pytest.raises(ValueError, match=r"visual.positional_embedding is \(50, 48\), expected \(17, 48\)"):
        ClipEncoder.load(named, weights=tmp_path / "size.safetensors")
    save_file(dict.fromkeys(["vision_model.post_layernorm.weight"], torch.zeros(48)), tmp_path / "hf.safetensors")
    with pytest.raises(ValueError, match=r"its names are those of transformers; expected a file of open_clip"):
        ClipEncoder.load(named, weights=tmp_path / "hf.safetensors")


class Evil:
    def __reduce__(self):
        return pytest.fail, ("code of a weights file was run",)


def test_damaged_files(tmp_path, weights):
    files = {
        "cut.safetensors": weights.read_bytes()[:1000],
        "text.pt": b"hello",
        "empty.bin": b"",
        "evil.pt": pickle.dumps(Evil()),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} is no weights file that can be read"):
            read_weights(tmp_path / name)
    for index, content in enumerate([[torch.zeros(2)], torch.zeros(2), {"lr": 0.1}, {1: torch.zeros(1)}, {}]):
        torch.save(content, tmp_path / f"{index}.pt")
        with pytest.raises(ValueError, match=rf"{index}.pt (holds no state dict|is no weights file)"):
            read_weights(tmp_path / f"{index}.pt")

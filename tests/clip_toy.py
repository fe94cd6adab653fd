"""Tiny CLIP models in open_clip's own folders, and their weights as `transformers` names them."""

import json

import open_clip
import torch
from safetensors.torch import save_file

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VIT = {"embed_dim": 24, "vision_cfg": {"image_size": 64, "layers": 3, "width": 48, "head_width": 16, "patch_size": 16}}
RN = {"embed_dim": 24, "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8}}
CONFIGS = {"vit": VIT, "rn": RN}


def make_folder(folder, kind, seed=0, preprocess=None, **changes):
    """Writes a model as open_clip saves it, every weight random; returns its name, `local-dir:FOLDER`."""
    folder.mkdir()
    config = {"model_cfg": {**CONFIGS[kind], "text_cfg": TEXT, **changes}, "preprocess_cfg": preprocess or {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    name = f"local-dir:{folder}"
    torch.manual_seed(seed)
    model = open_clip.create_model(name)
    for key, value in model.state_dict().items():
        if value.is_floating_point() and value.ndim <= 1 and key != "logit_scale":  # norms, biases, running statistics
            value.copy_(torch.rand_like(value) * 0.5 + 0.5 * (not key.endswith(("bias", "mean"))))
            if "running" in key:  # so small that what an RN sees survives its ReLUs
                value.mul_(0.1)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return name


def hugging_face_twin(clip, config):
    """`transformers`' CLIPModel with the weights of an open_clip ViT."""
    from transformers import CLIPConfig, CLIPModel

    vision, text = config["vision_cfg"], config["text_cfg"]
    act = "quick_gelu" if config.get("quick_gelu") else "gelu"
    heads = vision["width"] // vision.get("head_width", 64)
    shape = {"hidden_size": vision["width"], "intermediate_size": 4 * vision["width"], "num_attention_heads": heads}
    shape |= {"num_hidden_layers": vision["layers"], "image_size": vision["image_size"], "hidden_act": act}
    words = {"hidden_size": text["width"], "intermediate_size": 4 * text["width"], "hidden_act": act}
    words |= {"num_attention_heads": text["heads"], "num_hidden_layers": text["layers"], "vocab_size": 49408}
    words |= {"bos_token_id": 49406, "eos_token_id": 49407}
    settings = CLIPConfig(
        text_config=words,
        vision_config={**shape, "patch_size": vision["patch_size"]},
        projection_dim=config["embed_dim"],
    )
    twin = CLIPModel(settings).eval()
    state = dict(renamed(clip.state_dict()))
    missing, unexpected = twin.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.endswith("position_ids") for name in missing)
    return twin


def renamed(state):
    """Names and tensors of open_clip -> those of CLIPModel."""
    simple = {
        "logit_scale": "logit_scale",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    }
    norms = {"ln_final": "text_model.final_layer_norm", "visual.ln_pre": "vision_model.pre_layrnorm"}
    norms["visual.ln_post"] = "vision_model.post_layernorm"
    parts = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    for name, value in state.items():
        stem, _, leaf = name.rpartition(".")
        if name in simple:
            yield simple[name], value
        elif name in ("text_projection", "visual.proj"):
            yield ("text" if name == "text_projection" else "visual") + "_projection.weight", value.T
        elif stem in norms:
            yield f"{norms[stem]}.{leaf}", value
        else:
            tower = "vision_model" if name.startswith("visual.") else "text_model"
            index, _, rest = name.split("resblocks.")[1].partition(".")
            target = f"{tower}.encoder.layers.{index}"
            if "in_proj_" in rest:
                for letter, part in zip("qkv", value.chunk(3), strict=True):
                    yield f"{target}.self_attn.{letter}_proj.{rest.rpartition('_')[2]}", part
            elif rest.startswith("attn.out_proj"):
                yield f"{target}.self_attn.out_proj.{leaf}", value
            else:
                yield f"{target}.{parts[rest.rpartition('.')[0]]}.{leaf}", value

"""The joint transformer: BERT's own arithmetic, published sizes, real shapes; word pieces of a local folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from vl_tasks.one_stream import OneStream, OneStreamConfig, bert_settings
from vl_tasks.vision import Size
from vl_tasks.wordpieces import WordPieceTokenizer, read_wordpieces

TINY = OneStreamConfig(hidden=16, layers=2, heads=2, inner=32, max_positions=12)
WORDS = 20


def tiny_bert(folder: Path, **changes) -> BertModel:
    """A BERT of random weights in a folder, as save_pretrained leaves it."""
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
    torch.manual_seed(1)
    model = BertModel(BertConfig(vocab_size=WORDS, max_position_embeddings=9, **sizes, **changes)).eval()
    model.save_pretrained(folder)
    return model


def test_bert_base_has_its_published_size_and_takes_real_shapes() -> None:
    """BERT-base-uncased: 109,482,240 parameters (arXiv 1810.04805: 110 M); CLIP-ViL_p: 240 cells of RN50x4."""
    torch.manual_seed(0)
    size = Size(2560, 12, 20)
    model = OneStream(30_522, 3, [size], OneStreamConfig())
    assert sum(p.numel() for p in model.bert.parameters()) == 109_482_240
    places = (12 + 20) * 2560
    head = 768 * 1536 + 1536 + 2 * 1536 + 1536 * 3 + 3
    assert sum(p.numel() for p in model.parameters()) == 109_482_240 + places + 2560 * 768 + 768 + 2 * 768 + head
    logits = model([torch.randn(1, 12, 20, 2560)], torch.randint(1, 30_522, (1, 20)), torch.tensor([20]))
    assert logits.shape == (1, 3)
    logits.square().sum().backward()
    gradient = model.see.projections[0].weight.grad
    assert gradient is not None
    assert 0 < float(gradient.norm()) < float("inf")


def test_without_cells_it_is_the_bert_of_the_folder(tmp_path: Path) -> None:
    bert = tiny_bert(tmp_path)
    config, words = bert_settings(tmp_path, TINY)
    assert (words, config.hidden, config.layers, config.heads, config.inner, config.max_positions) == (
        20,
        24,
        2,
        3,
        40,
        9,
    )
    model = OneStream(words, 3, [Size(8, 2, 2)], config).eval()
    model.load_bert(tmp_path)
    ids, lengths = torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0]]), torch.tensor([4, 2])
    with torch.no_grad():
        found = model.decide(torch.zeros(2, 0, 24), ids, lengths)
        first = bert(ids, attention_mask=torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])).last_hidden_state[:, 0]
        torch.testing.assert_close(found, model.classify(bert.pooler.dense(first)))


def test_cells_are_seen_and_padding_is_not() -> None:
    torch.manual_seed(0)
    model = OneStream(WORDS, 3, [Size(8, 2, 3), Size(5, 1, 1)], TINY).eval()
    features = [torch.randn(2, 2, 3, 8), torch.randn(2, 1, 1, 5)]
    ids, lengths = torch.tensor([[1, 2, 3, 4], [5, 6, 9, 9]]), torch.tensor([4, 2])
    model.requires_grad_(False)
    found = model(features, ids, lengths)
    torch.testing.assert_close(model([f[1:] for f in features], ids[1:, :2], lengths[1:]), found[1:])
    for place in range(2):
        changed = [f.clone() for f in features]
        changed[place][0] += torch.randn_like(changed[place][0])
        other = model(changed, ids, lengths)
        assert float((other - found)[0].abs().max()) > 1e-6
        torch.testing.assert_close(other[1], found[1])
    with pytest.raises(ValueError, match="13 tokens; the model has places for 12"):
        model(features, torch.ones(2, 13, dtype=torch.int64), torch.tensor([13, 13]))


def test_segment_of_the_cells_can_be_left_out() -> None:
    model = OneStream(WORDS, 3, [Size(8, 2, 3)], TINY).eval()
    inputs = [torch.randn(1, 2, 3, 8)], torch.tensor([[1, 2]]), torch.tensor([2])
    for segment in (True, False):
        model.segment = segment
        model.zero_grad()
        model(*inputs).square().sum().backward()
        gradient = model.bert.embeddings.token_type_embeddings.weight.grad
        assert bool(gradient[1].any()) is segment


def test_building_draws_nothing_anew_that_was_there(tmp_path: Path) -> None:
    """Of the visual side only its own parameters are drawn: those of torch's layers, LayerNorm at 1 and 0."""
    model = OneStream(WORDS, 3, [Size(8, 2, 3)], TINY).requires_grad_(False)
    assert bool((model.norm.weight == 1).all())
    assert not bool(model.classify[0].bias.any())
    wide = 0.02 * (768 / 16) ** 0.5
    for weight in (model.classify[0].weight, model.bert.encoder.layer[0].attention.self.query.weight):
        assert 0.85 * wide < float(weight.std()) < 1.15 * wide
    assert float(model.see.projections[0].weight.abs().max()) > 0.2  # torch's own range, 1 / sqrt(8)


def test_explanation_adds_up_to_what_it_explains() -> None:
    """Integrated gradients are complete: over all cells they sum to the change of the explained number."""
    torch.manual_seed(0)
    model = OneStream(WORDS, 3, [Size(8, 2, 3)], TINY).eval().requires_grad_(False)
    features, ids, lengths = [3 * torch.randn(1, 2, 3, 8)], torch.tensor([[1, 2]]), torch.tensor([2])
    logits, maps = model.explain(features, ids, lengths)
    torch.testing.assert_close(logits, model(features, ids, lengths))
    cells = model.cells(features)
    alike = model.decide(cells.mean(1, keepdim=True).expand_as(cells), ids, lengths)
    best = logits.argmax()
    change = (logits - alike)[0, best] - (logits - alike).mean()
    assert maps[0].shape == (1, 2, 3)
    assert float(maps[0].min()) >= 0
    assert float(maps[0].sum()) >= float(change) - 0.01 * abs(
        float(change)
    )  # the cells that spoke against are cut at 0
    assert float(maps[0].max()) > 0


def test_wordpieces_are_those_of_transformers(tmp_path: Path) -> None:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "so", "##fa", "is", "red", ".", "un", "##red", "cafe"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    oracle = BertTokenizer(str(tmp_path / "vocab.txt"))
    tokenizer = WordPieceTokenizer(read_wordpieces(tmp_path), 8)
    assert len(tokenizer) == len(pieces)
    for text in ("The sofa is red.", "Café unred, blue", ""):
        assert tokenizer.encode(text)[1:-1] == oracle.encode(text, add_special_tokens=False)[:6]
    assert tokenizer.decode(tokenizer.encode("The sofa is red.")) == "the sofa is red ."
    assert WordPieceTokenizer(tokenizer.document, 8).encode("the sofa") == [2, 4, 5, 6, 3]
    ids, lengths = tokenizer.encode_batch(["the sofa", "red " * 20])
    assert ids.tolist() == [[2, 4, 5, 6, 3, 0, 0, 0], [2, 8, 8, 8, 8, 8, 8, 3]]
    assert lengths.tolist() == [5, 8]


def test_faults_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no config\.json"):
        bert_settings(tmp_path, TINY)
    with pytest.raises(ValueError, match=r"neither tokenizer\.json nor vocab\.txt"):
        read_wordpieces(tmp_path)
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(ValueError, match="lacks"):
        WordPieceTokenizer(read_wordpieces(tmp_path), 8)
    tiny_bert(tmp_path / "relu", hidden_act="relu")
    with pytest.raises(ValueError, match="found activation 'relu'"):
        bert_settings(tmp_path / "relu", TINY)
    tiny_bert(tmp_path / "whole")
    config, words = bert_settings(tmp_path / "whole", TINY)
    next((tmp_path / "whole").glob("*.safetensors")).unlink()
    with pytest.raises(ValueError, match="holds no weights that fit"):
        OneStream(words, 3, [Size(8, 1, 1)], config).load_bert(tmp_path / "whole")
    with pytest.raises(ValueError, match="expected a multiple of the heads"):
        OneStreamConfig(hidden=10, heads=3)

"""Instructions of a speaker for the routes of a split, compared with those that people gave."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import torch

from agent.data import Split
from agent.retrieval import nearest_routes
from agent.routes import Routes, episode_routes
from agent.sight import Eyes
from agent.speaker import Speaker
from clip_core.cider import cider_d
from clip_core.decoder import Search, Symbols
from clip_core.language_metrics import speaker_bleu, word_accuracy
from clip_core.tokenizer import Tokenizer
from clip_core.tokenizer import split as split_words
from envs.tables import World

Spoken = dict[str, str]
"""path_id -> instruction."""
GREEDY = Search()


def by_route(world: World) -> dict[str, list[int]]:
    """path_id -> the episodes that share the route, in the order of the file."""
    found: dict[str, list[int]] = {}
    for i, episode in enumerate(world.episodes):
        found.setdefault(episode.path_id, []).append(i)
    return found


def speak(
    speaker: Speaker,
    eyes: Eyes,
    split: Split,
    tokenizer: Tokenizer,
    search: Search = GREEDY,
    batch: int = 128,
    done: Callable[[int], object] = lambda routes: None,
) -> Spoken:
    """An instruction for every route of a split, in eval mode without gradients. Samples are drawn from torch's global
    generator. `done` is told of the number of routes after each batch."""
    was_training = speaker.training
    speaker.eval()
    groups = by_route(split.world)
    routes = episode_routes(split.world, split.ids.device).rows(torch.tensor([group[0] for group in groups.values()]))
    texts = [""] * len(routes)
    symbols = Symbols.of(tokenizer)
    with torch.no_grad():
        for index in torch.argsort(routes.lengths, stable=True).split(batch):
            context = speaker.read(eyes, split.tables, routes.rows(index))
            written = speaker.write(context, symbols, tokenizer.max_length, search)
            for i, ids in zip(index.tolist(), written.ids.tolist(), strict=True):
                texts[i] = readable(tokenizer.decode(ids))
            done(len(index))
    speaker.train(was_training)
    return dict(zip(groups, texts, strict=True))


def judge_by_teacher(speaker: Speaker, eyes: Eyes, split: Split, routes: Routes, batch: int = 128) -> dict[str, float]:
    """Teacher forcing over all instructions of a split: `loss`, nats per token, and `word_accuracy`, the share of
    tokens (the end among them) that the model would have chosen too. Eval mode without gradients."""
    was_training = speaker.training
    speaker.eval()
    total, predicted, spoken = 0.0, list[list[int]](), list[list[int]]()
    with torch.no_grad():
        for index in torch.argsort(split.lengths, stable=True).split(batch):
            context = speaker.read(eyes, split.tables, routes.rows(index))
            lengths = split.lengths[index]
            reading = speaker(context, split.ids[index.to(split.ids.device)], lengths)
            total -= float(reading.log_prob(len(index)).sum())
            by_text = torch.argsort(reading.text, stable=True)
            for words, found in ((reading.logits.argmax(1), predicted), (reading.target, spoken)):
                found += [part.tolist() for part in words[by_text].cpu().split((lengths - 1).tolist())]
    speaker.train(was_training)
    return {"loss": total / sum(map(len, spoken)), "word_accuracy": word_accuracy(predicted, spoken)[0]}


def retrieve(eyes: Eyes, split: Split, train: Split) -> Spoken:
    """For every route of a split the first instruction of the nearest route of train (both of one world)."""
    device = split.ids.device
    groups, known = by_route(split.world), by_route(train.world)
    routes, sources = (
        episode_routes(s.world, device).rows(torch.tensor([group[0] for group in g.values()]))
        for s, g in ((split, groups), (train, known))
    )
    firsts = [group[0] for group in known.values()]
    nearest = nearest_routes(eyes, split.tables, routes, sources)
    texts = [train.world.episodes[firsts[j]].instruction for j in nearest]
    return dict(zip(groups, texts, strict=True))


def score_spoken(spoken: Mapping[str, str], world: World) -> dict[str, float]:
    """`bleu4` (as R2R-EnvDrop counts it), `cider` (fractions), both against all instructions of each route, on words of
    R2R's tokenizer; `words`: mean length."""
    groups = by_route(world)
    references = [[split_words(world.episodes[i].instruction) for i in groups[path_id]] for path_id in spoken]
    candidates = [split_words(text) for text in spoken.values()]
    return {
        "bleu4": speaker_bleu(candidates, references).bleu,
        "cider": float(cider_d(candidates, references).mean()),
        "words": sum(map(len, candidates)) / len(candidates),
    }


def readable(text: str) -> str:
    """Words joined by spaces as one would write them: sentences begin with capitals, marks stand close to the word. The
    tokenizer finds the same words in both."""
    text = re.sub(r" ([.,;:!?)])", r"\1", text)
    text = re.sub(r"(\() ", r"\1", text)
    text = re.sub(r"(\w) (['-]) (?=\w)", r"\1\2", text)
    return re.sub(r"(^|[.!?] )([a-z])", lambda found: found[1] + found[2].upper(), text)


def as_r2r(spoken: Mapping[str, Sequence[str] | str], world: World) -> list[dict]:
    """The routes with their spoken instructions, as R2R's files have them."""
    groups = by_route(world)
    items = []
    for path_id, texts in spoken.items():
        episode = world.episodes[groups[path_id][0]]
        item = {
            "scan": episode.scan,
            "path_id": int(path_id) if path_id.isdigit() else path_id,
            "path": list(episode.path),
            "heading": episode.heading_rad,
            "instructions": [texts] if isinstance(texts, str) else list(texts),
        }
        items.append(item | ({} if episode.distance_m is None else {"distance": episode.distance_m}))
    return items

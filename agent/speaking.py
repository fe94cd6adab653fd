"""Instructions of a speaker for the routes of a split, compared with those that people gave."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from agent.data import Split
from agent.languages import languages_of
from agent.retrieval import nearest_routes
from agent.routes import Routes, episode_routes
from agent.sight import Eyes
from agent.speaker import Speaker
from clip_core.cider import cider_d
from clip_core.decoder import Search, Symbols
from clip_core.language_metrics import speaker_bleu, word_accuracy
from clip_core.subword_tokenizer import split_any_script
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
    unwritten: Sequence[int] = (),
) -> Spoken:
    """An instruction for every route of a split, in eval mode without gradients. Samples are drawn from torch's global
    generator. `done` is told of the number of routes after each batch; `unwritten`: ids that are never written."""
    several = speak_several(speaker, eyes, split, tokenizer, search, 1, batch, done, unwritten)
    return {path_id: texts[0] for path_id, texts in several.items()}


def speak_several(
    speaker: Speaker,
    eyes: Eyes,
    split: Split,
    tokenizer: Tokenizer,
    search: Search,
    count: int,
    batch: int = 128,
    done: Callable[[int], object] = lambda routes: None,
    unwritten: Sequence[int] = (),
) -> dict[str, list[str]]:
    """`speak` with up to `count` different instructions for every route: of a beam the best first, of samples as they
    were drawn. Empty ones are left out while there are others.

    Raises ValueError for a search that has not so many.
    """
    if count > 1 and search.method == "greedy":
        raise ValueError(f"instructions is {count} with the search greedy, which has one; expected sample or beam")
    if count > 1 and search.method == "beam" and count > search.beam_width:
        raise ValueError(f"instructions is {count}, but the beam keeps {search.beam_width}: raise beam_width")
    was_training = speaker.training
    speaker.eval()
    groups = by_route(split.world)
    routes = episode_routes(split.world, split.ids.device).rows(torch.tensor([group[0] for group in groups.values()]))
    texts = [list[str]() for _ in groups]
    symbols = Symbols.of(tokenizer)
    symbols = replace(symbols, never=(*symbols.never, *unwritten))
    with torch.no_grad():
        for index in torch.argsort(routes.lengths, stable=True).split(batch):
            context = speaker.read(eyes, split.tables, routes.rows(index))
            written = speaker.write(context, symbols, tokenizer.max_length, search, count=count)
            for i, ids in zip(index.repeat_interleave(count).tolist(), written.ids.tolist(), strict=True):
                texts[i].append(readable(tokenizer.decode(ids)))
            done(len(index))
    speaker.train(was_training)
    different = ([text for text in dict.fromkeys(several) if text] or [""] for several in texts)
    return dict(zip(groups, different, strict=True))


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
    R2R's tokenizer, or of any script where the data says which language it is in; `words`: mean length."""
    groups, words = by_route(world), split_any_script if languages_of(world.episodes) else split_words
    references = [[words(world.episodes[i].instruction) for i in groups[path_id]] for path_id in spoken]
    candidates = [words(text) for text in spoken.values()]
    return {
        "bleu4": speaker_bleu(candidates, references).bleu,
        "cider": float(cider_d(candidates, references).mean()),
        "words": sum(map(len, candidates)) / len(candidates),
    }


def readable(text: str) -> str:
    """Words joined by spaces as one would write them: sentences begin with capitals, marks stand close to the word. The
    tokenizer finds the same words in both."""
    text = re.sub(r" ([.,;:!?)।])", r"\1", text)
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

"""The speaker written plainly, in the manner of the original program: the specification of the fast path.

One scalar environment walks each route, features come as one array with the angle numbers tiled to their full size,
torch's own LSTMs run over one route and one instruction at a time, the decoder word by word.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agent.speaker import Speaker
from envs.navigation import NavEnv


def walk(env: NavEnv, episode: int) -> tuple[Tensor, Tensor]:
    """Along the reference route of an episode: features of the edges taken [T, D + A], zero at the stop, and of the
    views [T, 36, D + A]."""
    observation, _ = env.reset(options={"episode": episode})
    actions, views = [], []
    for viewpoint in [*env.episode.path[1:], None]:
        count = int(observation["action_mask"].sum()) - 1
        places = [env.world.candidates.viewpoints[row][1] for row in observation["candidate_viewpoint"][:count]]
        action = count if viewpoint is None else places.index(viewpoint)
        actions.append(torch.from_numpy(observation["candidate_features"][action]))
        views.append(torch.from_numpy(observation["features"]))
        observation, *_ = env.step(action)
    return torch.stack(actions), torch.stack(views)


def read(speaker: Speaker, actions: Tensor, views: Tensor) -> Tensor:
    """[T, H] the context of one route."""
    encoder = speaker.encoder
    moved, _ = encoder.lstm(actions[None])
    found, _ = encoder.view_attention(moved[0], views)
    return encoder.post_lstm(found[None])[0][0]


def decide(speaker: Speaker, word: Tensor, state: tuple[Tensor, Tensor] | None, context: Tensor):
    """Logits [V] of the word after `word`, and the LSTM's state."""
    decoder = speaker.decoder
    output, state = decoder.lstm(decoder.embedding(word).view(1, 1, -1), state)
    tilde, _ = decoder.attention(output[0], context[None])
    return decoder.projection(tilde)[0], state


def plain_loss(speaker: Speaker, env: NavEnv, episodes: Sequence[int], ids: Tensor, lengths: Tensor) -> Tensor:
    """Mean cross-entropy over all tokens after the first of the instructions."""
    total, tokens = torch.zeros(()), 0
    for episode, text, length in zip(episodes, ids, lengths.tolist(), strict=True):
        context = read(speaker, *walk(env, episode))
        state = None
        for t in range(length - 1):
            logits, state = decide(speaker, text[t], state, context)
            total = total + F.cross_entropy(logits, text[t + 1])
            tokens += 1
    return total / tokens


@torch.no_grad()
def plain_greedy(
    speaker: nn.Module, env: NavEnv, episode: int, begin: int, end: int, never: Sequence[int]
) -> list[int]:
    """The likeliest word at each place, until the end or 12 words."""
    context = read(speaker, *walk(env, episode))
    words, state = [begin], None
    while words[-1] != end and len(words) < 13:
        logits, state = decide(speaker, torch.tensor(words[-1]), state, context)
        logits[list(never)] = -torch.inf
        words.append(int(logits.argmax()))
    return words

"""The speaker of R2R-EnvDrop (Tan, Yu, Bansal 2019, arXiv 1904.04195): a route becomes an instruction.

Legend: B routes, T steps, P packed steps, V = 36 views, D visual feature, A = 4 numbers of an angle, H hidden, L token.

A bidirectional LSTM reads the actions of the route (the features of the edges taken, with their angles), its states
attend to the 36 views of each step, a second one reads what they found; an LSTM with attention over that writes. As in
the follower, the weights have the original's size (angles repeated 32 times), and their repeated columns are summed
before the product. The original runs its LSTMs over the padding behind short routes too; here routes are packed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agent.follower import ANGLE, Sight, attend_views
from agent.routes import Routes, see_routes
from agent.sight import Eyes
from clip_core.blocks import Dropout, Packing, SoftDotAttention, fold_tiles, packed_lstm, padding_mask
from clip_core.decoder import Generated, Search, Symbols, beam_search, generate
from clip_core.lstm_decoder import Context, LSTMTextDecoder, Reading
from envs.tables import NavTables


@dataclass(frozen=True)
class SpeakerSizes:
    """Sizes and dropouts of the speaker; the defaults are those published for R2R-EnvDrop."""

    words: int
    feature: int = 0
    """Visual feature size; 0 for the blind speaker."""
    word: int = 256
    hidden: int = 512
    angle: int = 128
    dropout: float = 0.6
    feature_dropout: float = 0.3


class RouteEncoder(nn.Module):
    """Steps of a route -> a vector for each."""

    def __init__(self, sizes: SpeakerSizes) -> None:
        super().__init__()
        size = sizes.feature + sizes.angle
        self.feature = sizes.feature
        self.lstm = nn.LSTM(size, sizes.hidden // 2, batch_first=True, bidirectional=True)
        self.view_attention = SoftDotAttention(sizes.hidden, size)
        self.post_lstm = nn.LSTM(sizes.hidden, sizes.hidden // 2, batch_first=True, bidirectional=True)
        self.drop = Dropout(sizes.dropout)
        self.drop_feature = Dropout(sizes.feature_dropout)

    def forward(self, sight: Sight, pack: Packing) -> Tensor:
        """[P, H] from what is seen at the packed steps, its only candidate being the edge taken."""
        actions, views = sight.candidate_angles[:, 0], None
        if sight.views is not None and sight.candidates is not None:
            views = self.drop_feature(sight.views).float()
            actions = torch.cat([self.drop_feature(sight.candidates[:, 0]).float(), actions], 1)
        moved_PH = self.drop(packed_lstm(self.lstm, actions, pack, ANGLE)[0])
        attention = self.view_attention
        assert attention.linear_out is not None
        query = F.linear(moved_PH, fold_tiles(attention.linear_in.weight, self.feature, ANGLE, 0))
        seen = attend_views(query, views, sight.view_angles)
        weight, end = attention.linear_out.weight, attention.linear_in.out_features
        folded = torch.cat([fold_tiles(weight[:, :end], self.feature, ANGLE), weight[:, end:]], 1)
        found_PH = torch.tanh(F.linear(torch.cat([seen, moved_PH], 1), folded))
        return self.drop(packed_lstm(self.post_lstm, self.drop(found_PH), pack)[0])


class Speaker(nn.Module):
    """Route encoder and text decoder."""

    def __init__(self, sizes: SpeakerSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.encoder = RouteEncoder(sizes)
        self.decoder = LSTMTextDecoder(sizes.words, sizes.word, sizes.hidden, sizes.dropout)

    def read(self, eyes: Eyes, tables: NavTables, routes: Routes) -> Context:
        """The routes [B] as a context of T vectors each."""
        sight, pack = see_routes(eyes, tables, routes)
        vectors = pack.unpack(self.encoder(sight, pack))
        return Context(vectors, padding_mask(routes.lengths.to(vectors.device), vectors.shape[1]))

    def forward(self, context: Context, ids_BL: Tensor, lengths_B: Tensor) -> Reading:
        """Teacher forcing: what the speaker makes of instructions about the routes. lengths on the CPU."""
        return self.decoder(ids_BL, lengths_B, context)

    def write(
        self,
        context: Context,
        symbols: Symbols,
        max_length: int,
        search: Search,
        generator: torch.Generator | None = None,
        count: int = 1,
    ) -> Generated:
        """Instructions about the routes, `count` for each, those of a route together; see `decoder.generate`. A beam
        gives the best `count` that it keeps, the best first; where there are fewer texts, the rest is empty."""
        routes, device = len(context.vectors), context.vectors.device
        if search.method == "beam" and count > 1:
            start = self.decoder.start(context)
            kept = beam_search(self.decoder.step, start, routes, symbols, max_length, search, device)
            first = torch.arange(routes, device=device)[:, None] * search.beam_width
            return kept.rows((first + torch.arange(count, device=device)).flatten())
        context = context.rows(torch.arange(routes, device=device).repeat_interleave(count)) if count > 1 else context
        start = self.decoder.start(context)
        return generate(self.decoder.step, start, routes * count, symbols, max_length, search, device, generator)

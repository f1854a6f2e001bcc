#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Times llama.cpp's llama_decode for benchmarks/cpu/run: one line asks, one JSON line answers.

    peer_rate.py MODEL.gguf --threads N --states DIR

The lines are those of forward_rate.c:
    prefill TOKENS               {"tokens": T, "seconds": S, "flash": true}
    decode BATCH CONTEXT STEPS   {"tokens": T, "seconds": S, "flash": F}   BATCH sequences, CONTEXT tokens before
    greedy STEPS TOKEN...        {"token": [...], "logits": [the first 64 of the prompt's last row]}
    release                      gives back the memory of the KV cache

A prompt goes in batches of 512 tokens, logits for its last token only; a decode step has one token
of every sequence and the logits of all.  Flash attention: on for prompts; decoding tries both when a
shape is asked for first, and keeps the faster.  The model is read, not mapped.  Sequences share no KV cell: one prompt is computed, saved
in DIR, and restored into every sequence.  Needs the packages llama_cpp and numpy.
"""
import argparse
import ctypes
import json
import os
import struct
import sys
import time

from llama_cpp import llama_cpp as lib

BATCH_TOKENS = 512
LOGITS_SHOWN = 64
MOST_STEPS = 64
TRIAL_STEPS = 3


@lib.llama_log_callback
def say_nothing(level, text, data):
    pass


def tokens_of(count, vocabulary, state):
    """The same numbers as next_token in forward_rate.c."""
    tokens = []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        tokens.append((state >> 33) % vocabulary)
    return tokens


def for_streams(state, streams):
    """A state saved by a context of one sequence, as one of several writes it: the third word counts
    the streams, and an empty one is a zero at the end."""
    state = bytearray(state)
    struct.pack_into("<I", state, 8, streams)
    return state + bytes(4 * (streams - 1))


class Peer:
    def __init__(self, path, threads, states):
        self.path, self.threads, self.states = path, threads, states
        lib.llama_log_set(say_nothing, None)
        lib.llama_backend_init()
        params = lib.llama_model_default_params()
        params.load_mode = lib.LLAMA_LOAD_MODE_NONE
        self.model = lib.llama_model_load_from_file(path.encode(), params)
        if not self.model:
            sys.exit(f"peer_rate: llama.cpp cannot load {path}")
        self.vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))
        self.context, self.shape, self.filled = None, None, 0
        self.flash = {}  # {(sequences, context): whether flash attention is the faster}
        self.batch = lib.llama_batch_init(BATCH_TOKENS, 0, 1)

    def open_context(self, sequences, length, flash=True):
        """A context for that many sequences of that many tokens; kept while the shape stays."""
        if self.shape == (sequences, length, flash):
            return
        self.release()
        params = lib.llama_context_default_params()
        params.n_ctx = sequences * -(-length // 256) * 256
        params.n_batch = params.n_ubatch = BATCH_TOKENS
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = self.threads
        params.flash_attn_type = int(flash)
        params.kv_unified = False
        params.no_perf = True
        self.context = lib.llama_init_from_model(self.model, params)
        if not self.context:
            sys.exit(f"peer_rate: no memory for {sequences} sequences of {length} tokens")
        self.shape = sequences, length, flash

    def release(self):
        if self.context:
            lib.llama_free(self.context)
        self.context, self.shape, self.filled = None, None, 0

    def run(self, rows, wanted):
        """rows: [(token, position, sequence)]; wanted: rows with logits."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (token, position, sequence) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, i in wanted
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        if lib.llama_decode(self.context, batch) != 0:
            sys.exit("peer_rate: llama_decode failed")
        lib.llama_synchronize(self.context)

    def prompt(self, tokens):
        """Computes a prompt as sequence 0, the only one."""
        lib.llama_memory_clear(self.memory(), False)
        self.filled = 0
        for begin in range(0, len(tokens), BATCH_TOKENS):
            part = tokens[begin:begin + BATCH_TOKENS]
            last = {len(part) - 1} if begin + len(part) == len(tokens) else set()
            self.run([(token, begin + i, 0) for i, token in enumerate(part)], last)

    def memory(self):
        return lib.llama_get_memory(self.context)

    def prefill(self, count):
        self.open_context(1, count)
        tokens = tokens_of(count, self.vocabulary, 1)
        begin = time.perf_counter()
        self.prompt(tokens)
        return {"tokens": count, "seconds": time.perf_counter() - begin, "flash": True}

    def saved_state(self, context, flash):
        """The KV of one prompt, for every type of a model's weights; flash attention has its own layout."""
        model = os.path.basename(self.path).rsplit(".", 2)[0]
        path = os.path.join(self.states, f"{model}.{context}.{'flash' if flash else 'plain'}.state")
        if os.path.exists(path):
            with open(path, "rb") as file:
                return file.read()
        self.open_context(1, context, flash)
        self.prompt(tokens_of(context, self.vocabulary, 1))
        size = lib.llama_state_seq_get_size(self.context, 0)
        data = (ctypes.c_uint8 * size)()
        lib.llama_state_seq_get_data(self.context, data, size, 0)
        with open(path + ".unfinished", "wb") as file:
            file.write(data)
        os.replace(path + ".unfinished", path)
        return bytes(data)

    def fill(self, sequences, context, flash):
        shape = sequences, context + MOST_STEPS, flash
        if self.shape == shape and self.filled == context:
            return
        state = for_streams(self.saved_state(context, flash), sequences)
        self.open_context(*shape)
        data = (ctypes.c_uint8 * len(state)).from_buffer(state)
        for sequence in range(sequences):
            lib.llama_state_seq_set_data(self.context, data, len(state), sequence)
            if lib.llama_memory_seq_pos_max(self.memory(), sequence) != context - 1:
                sys.exit("peer_rate: llama.cpp did not restore a saved sequence")
        self.filled = context

    def decode(self, sequences, context, steps):
        if steps > MOST_STEPS:
            sys.exit(f"peer_rate: decode: at most {MOST_STEPS} steps")
        if (sequences, context) not in self.flash:
            trials = {flash: min(self.decode_steps(sequences, context, TRIAL_STEPS, flash)) for flash in (True, False)}
            self.flash[sequences, context] = trials[True] < trials[False]
        flash = self.flash[sequences, context]
        seconds = self.decode_steps(sequences, context, steps, flash)
        return {"tokens": sequences * steps, "seconds": sum(seconds), "flash": flash}

    def decode_steps(self, sequences, context, steps, flash):
        """Seconds of each step; the sequences are as before afterwards."""
        self.fill(sequences, context, flash)
        tokens = tokens_of(sequences * steps, self.vocabulary, 2)
        seconds = []
        for step in range(steps):
            rows = [(tokens[step * sequences + i], context + step, i) for i in range(sequences)]
            begin = time.perf_counter()
            self.run(rows, range(sequences))
            seconds.append(time.perf_counter() - begin)
        for sequence in range(sequences):
            lib.llama_memory_seq_rm(self.memory(), sequence, context, -1)
        return seconds

    def greedy(self, steps, *tokens):
        self.open_context(1, len(tokens) + steps)
        self.prompt(list(tokens))
        chosen, first = [], None
        for step in range(steps):
            logits = lib.llama_get_logits_ith(self.context, -1)[:self.vocabulary]
            first = first or logits[:LOGITS_SHOWN]
            chosen.append(max(range(self.vocabulary), key=logits.__getitem__))
            self.run([(chosen[-1], len(tokens) + step, 0)], {0})
        return {"token": chosen, "logits": first}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--states", required=True, help="directory for saved prompts")
    options = parser.parse_args()
    peer = Peer(options.model, options.threads, options.states)
    print(json.dumps({"ready": lib.llama_print_system_info().decode()}), flush=True)
    for line in sys.stdin:
        verb, *numbers = line.split()
        if verb not in ("prefill", "decode", "greedy", "release"):
            sys.exit(f"peer_rate: unknown request {verb!r}")
        print(json.dumps(getattr(peer, verb)(*map(int, numbers)) or {}), flush=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 180
# processors: 1
# Skipped (77) where the cross compiler or the emulator is missing.
cd "$POLYREME_SOURCE" && exec bash scripts/check_neon

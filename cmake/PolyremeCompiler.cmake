# SPDX-License-Identifier: BSD-3-Clause
# Flags for every target. Contraction is off everywhere: a fused multiply-add happens only where the
# source says fmaf, so that bytes do not depend on the file or the compiler (design: numbers).
add_compile_definitions(_GNU_SOURCE)
set(polyreme_c_warnings
    -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wvla
    -Wformat=2 -Wcast-qual -Wpointer-arith -Wwrite-strings -Wdouble-promotion -Wconversion
    -Wno-sign-conversion -Wimplicit-fallthrough)
add_compile_options(
    -ffp-contract=off -fno-strict-aliasing -Wall -Wextra
    "$<$<COMPILE_LANGUAGE:C>:${polyreme_c_warnings}>")
if(POLYREME_WERROR)
    add_compile_options(-Werror)
endif()
if(POLYREME_SANITIZE)
    add_compile_options(
        -fsanitize=${POLYREME_SANITIZE} -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
    add_link_options(-fsanitize=${POLYREME_SANITIZE})
endif()

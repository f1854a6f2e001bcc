# SPDX-License-Identifier: BSD-3-Clause
# Writes a file as a C array: cmake -D INPUT=page.html -D OUTPUT=page.c -D HEADER=launcher/page/page.h
# -D NAME=pr_page -P embed_file.cmake defines NAME and NAME_bytes as HEADER declares them.
file(READ ${INPUT} hex HEX)
string(LENGTH "${hex}" digits)
math(EXPR bytes "${digits} / 2")
string(REGEX REPLACE "(................................)" "\\1\n" lines "${hex}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," array "${lines}")
file(WRITE ${OUTPUT}
    "// Made from ${NAME}'s file at build time.\n#include \"${HEADER}\"\n\n"
    "const unsigned char ${NAME}[] = {\n${array}\n};\nconst size_t ${NAME}_bytes = ${bytes};\n")

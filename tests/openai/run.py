# SPDX-License-Identifier: BSD-3-Clause
"""Runs the suites against one layout: run.py one|five TRANSCRIPT [NAME...]. Exit code 1 if anything failed."""
import pathlib
import sys
import unittest

import case

HERE = pathlib.Path(__file__).parent


def main():
    layout, transcript, *names = sys.argv[1:]
    case.Shared.layout = layout
    loader = unittest.TestLoader()
    loader.testNamePatterns = [f"*{name}*" for name in names] or None
    tests = loader.discover(str(HERE), "suite_*.py")
    result = unittest.TextTestRunner(verbosity=1).run(tests)
    case.Shared.stop()
    case.TRANSCRIPT.write(transcript)
    return 0 if result.wasSuccessful() and result.testsRun else 1


sys.exit(main())

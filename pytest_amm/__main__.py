"""What `amm budget suggest REPORT.json...` runs: budgets from what earlier runs used."""

from __future__ import annotations

import sys

from pytest_amm import suggest


def main() -> int:
    if sys.argv[1:2] != ["suggest"]:
        sys.stderr.write("usage: amm budget suggest REPORT.json... (--help tells more)\n")
        return 2
    return suggest.main(sys.argv[2:])


if __name__ == "__main__":
    raise SystemExit(main())

"""Three tests, one of which never stops growing.

pytest --amm-budget=256MB examples/test_budget.py
"""


def test_small():
    assert sum(range(1000)) == 499_500


def test_table():
    rows = [{"id": number, "name": str(number)} for number in range(200_000)]
    assert len(rows) == 200_000


def test_runaway():
    kept = []
    while True:
        kept.append(bytearray(2**20))

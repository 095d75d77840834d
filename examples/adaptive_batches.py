"""A batch job that reads its batch size from the plan: large while memory is plenty, small as it gets tight."""

import amm_exporter as amm

POLICY = {"plan": {"batch_size": {"normal": 1000, "moderate": 500, "high": 250, "severe": 100}}}


def process(rows):
    return [str(row).encode() for row in rows]


def main(rows):
    done = 0
    with amm.Governor(POLICY) as governor:
        while done < len(rows):
            size = governor.setting("batch_size")
            process(rows[done : done + size])
            done += size
        print(f"{len(rows)} rows; tier {governor.tier.name}, batch size {governor.setting('batch_size')}")


if __name__ == "__main__":
    main(range(100_000))

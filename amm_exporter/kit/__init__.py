"""Building blocks that report their own statistics: a cache, an object pool. Watch them by `amm.watch(name, obj)`."""

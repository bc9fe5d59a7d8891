"""How arithmetic is done and shared out: matrix products, threads, processes, random numbers."""

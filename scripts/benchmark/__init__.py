"""How fast mfnet is, against what one would write without it: ``python scripts/benchmark``.

Contestants, on full batches of normal inputs with the linear hinge and ReLU nodes:

- ours: `mfnet.flow`: an evaluator's pass for one gradient, `mfnet.flow.Averaged` for a whole way;
- (a) an autograd loop in plain PyTorch with `torch.optim.SGD`;
- (a′) the same with its loss under `torch.compile`, timed after it was compiled;
- (b) the same as (a), as a plain `LightningModule` with automatic optimisation;
- (c) the two matrix products of a gradient alone, by `torch.mm`, in tiles that stay in the cache;
- (c′) the same by `mfnet.compute.products.product`, the fastest product there is here: the limit;
- (d) an Euler flow on the gradient of autograd, whose steps adapt to how much the gradient changes.
"""

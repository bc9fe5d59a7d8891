"""What callbacks of Lightning's are shown of a run."""

from __future__ import annotations

from lightning.pytorch import Callback

import mfnet


class Monitor(Callback):
    """Looks at what Lightning's own callbacks monitor."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, *_):
        self.seen.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def test_callbacks_can_monitor_every_series():
    monitor = Monitor()
    settings = {"M": 20, "N": 30, "d": 5, "theory": None, "logger": [], "trainer.accelerator": "cpu"}
    run = mfnet.train(**settings, data__n_test=40, schedule__t_max=2.0, callbacks=[monitor])
    history = run.history.iloc[1:]
    assert len(monitor.seen) == len(history)
    for name in ("gamma", "test_error", "mean_force"):
        assert [seen[name] for seen in monitor.seen] == history[f"{name}_network"].astype("float32").tolist()

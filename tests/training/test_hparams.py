"""A sweep in TensorBoard's HParams, as TensorBoard itself understands the files."""

from __future__ import annotations

from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams.backend_context import Context
from torch.utils.tensorboard import SummaryWriter

from mfnet.record.series import SERIES
from mfnet.training.sinks import tags
from mfnet.training.sinks.events import InBulk

FLOWS = {
    "euler": {"_target_": "mfnet.flow.Euler", "dt": 0.5},
    "sgd": {"_target_": "mfnet.flow.Descent", "dt": 0.5, "batch_size": 10},
}


def config(alpha, flow):
    """Of a run; one with a larger α learns other classes, which are lists."""
    data = {"flip": 0.0, "positive": [1] if alpha < 1.0 else [3, 5], "negative": None}
    groups = {"network": {"activation": "relu"}, "loss": {"name": "hinge"}, "data": data}
    return {"M": 40, "alpha": alpha, **groups, "flow": FLOWS[flow]}


def test_what_differs_comes_first_with_the_final_metrics(tmp_path):
    for i, (alpha, flow) in enumerate([(0.1, "euler"), (10.0, "euler"), (10.0, "sgd")]):
        with SummaryWriter(str(tmp_path / str(i) / "network")) as writer:
            writer.add_scalar("curves/test_error", 0.5, 0)
        end = InBulk(tmp_path / str(i) / tags.FINAL)
        for summary in tags.end(config(alpha, flow), {**dict.fromkeys(SERIES, 0.1 * i), "mine": 1.0}):
            end.add_summary(summary)
        end.close()
    runs = EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()
    context = Context(TBContext(data_provider=MultiplexerDataProvider(runs, str(tmp_path))))
    request = RequestContext()
    metadata = context.hparams_metadata(request, "")
    experiment = context.experiment_from_metadata(request, "", True, metadata, None)
    names = [info.name for info in experiment.hparam_infos]
    assert names[:3] == ["alpha", "data.positive", "flow"]
    classes = next(info for info in experiment.hparam_infos if info.name == "data.positive")
    assert sorted(value.string_value for value in classes.domain_discrete.values) == ["[1]", "[3, 5]"]
    assert set(names) == {
        "M",
        "alpha",
        "flow",
        "network.activation",
        "loss.name",
        "data.flip",
        "data.positive",
        "flow.dt",
        "flow.batch_size",
    }
    assert {info.name.tag for info in experiment.metric_infos} == {f"final/{name}" for name in [*SERIES, "mine"]}

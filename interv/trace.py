"""The one home of nnsight: run the model once and visit its modules on the way."""

from collections.abc import Mapping
from typing import Any

import nnsight
import torch
from nnsight import NNsight
from nnsight.intervention.envoy import Envoy
from nnsight.intervention.interleaver import OutOfOrderError
from torch import Tensor

from interv.plan import Location, Visit
from interv.site import Side


def run(envoy: NNsight, visits: Mapping[Location, Visit], inputs: Mapping[str, Any], *, generate: bool = False) -> Any:
    """Call the model, or its `generate`, and hand each visited module's hidden state to its function.

    One worker a location: the order in which the model runs its modules then orders the workers, and no worker can
    slip into the next step by waiting for a module that this step has passed. Without visits nothing is traced.
    """
    if not visits:
        with torch.no_grad():
            return envoy._module.generate(**inputs) if generate else envoy._module(**inputs)
    workers = [(resolve(envoy, path), side, visit) for (path, side), visit in visits.items()]
    with torch.no_grad(), envoy.trace(fn="generate" if generate else "__call__") as tracer:
        store = nnsight.save({})
        for site, side, visit in workers:
            with tracer.invoke():
                _work(site, side, visit, tracer, generate)
        with tracer.invoke(**inputs):
            store["result"] = tracer.result
    return store["result"]


def resolve(envoy: Any, path: str) -> Envoy:
    """The envoy of a module. Raises ValueError with the longest part of the path that exists."""
    found = envoy
    parts = path.split(".")
    for depth, part in enumerate(parts):
        children = dict(found._module.named_children())
        if part not in children:
            where = ".".join(parts[:depth]) or "the model"
            raise ValueError(f"{path!r} is no module: {where} has {', '.join(children) or 'no parts'}.")
        found = found[int(part)] if part.isdigit() else getattr(found, part)
    return found


def _work(site: Envoy, side: Side, visit: Visit, tracer: Any, generate: bool) -> None:
    try:
        if not generate:
            _apply(site, side, visit, 0)
            return
        for count in tracer.iter[:]:
            _apply(site, side, visit, count)
    except OutOfOrderError:  # the run is over: how an open-ended worker ends, and how a module that never ran shows
        pass


def _apply(site: Envoy, side: Side, visit: Visit, count: int) -> None:
    value = getattr(site, side)  # parks here until the model arrives
    hidden = value if isinstance(value, Tensor) else value[0]
    changed = visit(hidden, count)
    if changed is not hidden:
        setattr(site, side, changed if isinstance(value, Tensor) else (changed, *value[1:]))

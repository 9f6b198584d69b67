"""The one home of nnsight: run the model once and visit its modules on the way."""

from collections.abc import Mapping
from contextlib import nullcontext
from threading import get_ident
from typing import Any

import nnsight
import torch
from nnsight import NNsight
from nnsight._c import unmount
from nnsight.intervention.envoy import Envoy
from nnsight.intervention.interleaver import EarlyStopException, Interleaver, OutOfOrderError
from torch import nn

from interv.attention.function import Ask, attending
from interv.models.compiled import as_written
from interv.models.turns import turn_of
from interv.places.site import Side
from interv.running.mounted import ASKED_FOR
from interv.running.plan import Location, Visit, hidden_of, with_hidden

if not ASKED_FOR and hasattr(object, "save"):
    unmount("save")


class _OwnThread(Interleaver):
    """Follows the model in the thread that runs it alone: others may call the same modules meanwhile."""

    _thread: int | None = None

    @property
    def interleaving(self) -> bool:
        return self._thread is not None and self._thread == get_ident()

    @interleaving.setter
    def interleaving(self, on: bool) -> None:
        self._thread = get_ident() if on else None


class _Place(NNsight):
    """One module for nnsight, without those inside it: during a run every wrapped module costs every forward time."""

    device = None  # inputs come on the right one; that of the first parameter is none where weights are offloaded

    def _add_envoy(self, name: str, module: nn.Module) -> None:
        pass


class _Stop(Exception):
    """The model has come as far as it was to run."""


class Tracer:
    """A model for nnsight, of which only the modules are wrapped that some run has visited."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._root = _Place(model, interleaver=_OwnThread())
        self._places: dict[int, Envoy] = {id(model): self._root}  # by module: one may have several paths
        self._lock = turn_of(model)

    def run(
        self,
        visits: Mapping[Location, Visit],
        inputs: Mapping[str, Any],
        *,
        generate: bool = False,
        until: Location | None = None,
        asks: Mapping[str, Ask] | None = None,
    ) -> Any:
        """Call the model, or its `generate`, and hand each visited module's hidden state to its function.

        With `until` the model stops at that place, after the visits that are made there, and there is no result.
        `asks` are of attention modules, which nnsight does not see inside. Threads that share a model take turns.

        One worker a location: the order in which the model runs its modules then orders the workers, and no worker can
        slip into the next step by waiting for a module that this step has passed. Without visits nothing is traced.
        """
        inside = [path for path, _ in visits] + [path for path, _ in filter(None, [until])]
        written = as_written(self.model, inside) if inside else nullcontext()
        with self._lock, written, attending(self.model, asks or {}):
            return self._run(visits, inputs, generate, until)

    def _run(
        self, visits: Mapping[Location, Visit], inputs: Mapping[str, Any], generate: bool, until: Location | None
    ) -> Any:
        if not visits:
            with torch.no_grad():
                if until is not None:
                    return self._stopped(inputs, *until)
                return self.model.generate(**inputs) if generate else self.model(**inputs)  # type: ignore[operator]
        workers = [(self._place(path), side, visit) for (path, side), visit in visits.items()]
        stop = EarlyStopException()
        with torch.no_grad(), self._root.trace(fn="generate" if generate else "__call__") as tracer:
            store = nnsight.save({})
            for place, side, visit in workers:
                with tracer.invoke():
                    _work(place, side, visit, tracer, generate)
            with tracer.invoke(**inputs):
                if until is None:
                    store["result"] = tracer.result
                else:
                    getattr(self._place(until[0]), until[1])  # parks here until the model arrives
                    raise stop
        # The stop holds every frame that it went through, with all activations there, and some of these hold it.
        stop.__traceback__ = stop.__context__ = None
        stop.__dict__.clear()
        return store.get("result")

    def _stopped(self, inputs: Mapping[str, Any], path: str, side: Side) -> None:
        """Call the model up to this place, by a plain hook."""

        thread = get_ident()

        def stop(*_: Any) -> None:
            if get_ident() == thread:
                raise _Stop

        module = self.model.get_submodule(path)
        hook = module.register_forward_pre_hook if side == "input" else module.register_forward_hook
        handle = hook(stop)
        try:
            self.model(**inputs)
        except _Stop:
            pass
        finally:
            handle.remove()

    def _place(self, path: str) -> Envoy:
        module = self.model.get_submodule(path)
        if id(module) not in self._places:
            self._places[id(module)] = _Place(module, f"model.{path}", self._root.interleaver, parent=self._root)
        return self._places[id(module)]


def _work(place: Envoy, side: Side, visit: Visit, tracer: Any, generate: bool) -> None:
    try:
        if not generate:
            _apply(place, side, visit, 0)
            return
        for count in tracer.iter[:]:
            _apply(place, side, visit, count)
    except OutOfOrderError:  # the run is over: how an open-ended worker ends, and how a module that never ran shows
        pass


def _apply(place: Envoy, side: Side, visit: Visit, count: int) -> None:
    value = getattr(place, side)  # parks here until the model arrives
    hidden = hidden_of(value, f"The {side} of {place.path.removeprefix('model.')}")
    changed = visit(hidden, count)
    if changed is not hidden:
        setattr(place, side, with_hidden(value, changed))

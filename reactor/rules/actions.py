"""The actions of native rules: from what stands in a file to steps that make calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bus import durations
from reactor.rules.expressions import Values
from reactor.rules.model import Call
from reactor.rules.program import Retry, Step
from reactor.rules.values import (
    Place,
    Value,
    ValueCompiler,
    checked,
    checked_tag,
    is_list,
    is_target,
    is_text,
    names_of,
    spot_of,
)

_WITHOUT_BODY = ("GET", "HEAD", "DELETE")

Make = Callable[[Values], Call]

DEFAULT_TIMES, DEFAULT_BACKOFF, DEFAULT_MAX, DEFAULT_JITTER = 3, 1.0, 300.0, 0.1

DEFAULT_WAIT = 60.0
"""Seconds that ``wait: true`` waits for a job without a ``timeout``."""

_GRACE = 2.0
"""Seconds for minions to say that a job was ended when its time was over."""

_OPTIONS = {
    "http": ("method", "headers", "params", "json", "body", "sign", "token", "verify"),
    "log": ("level",),
    "notify": ("subject", "text"),
}
"""What stands beside an action of these kinds, and goes with the call."""


class ActionBuilder:
    """Makes steps of actions whose form the schema allows."""

    def __init__(self, values: ValueCompiler) -> None:
        self._values = values
        self._kinds: Mapping[str, Callable[[Mapping[str, Any], Place], tuple[Make, frozenset[str]]]]
        self._kinds = {
            "local": self._local,
            "runner": lambda action, place: self._function("runner", action, place),
            "wheel": lambda action, place: self._function("wheel", action, place),
            "caller": lambda action, place: self._function("caller", action, place),
            "event": self._event,
            "exec": self._exec,
            "http": lambda action, place: self._other("http", action, place),
            "log": lambda action, place: self._other("log", action, place),
            "notify": lambda action, place: self._other("notify", action, place),
        }

    def steps(
        self, actions: Sequence[Mapping[str, Any]], place: Place, seen: Sequence[str] = ()
    ) -> tuple[Step, ...]:
        """Return the steps of a list of actions.

        Args:
            actions: the list.
            place: where it stands.
            seen: the ids of actions before these.

        Raises:
            RuleError: something in it is wrong.
        """
        taken = set(seen)
        steps = []
        for number, action in enumerate(actions):
            at = place.below(number)
            # The first has none before it, but one that is moved should not break for it.
            steps.append(self._step(action, at.seeing("results")))
            name = steps[-1].id
            if name and name in taken:
                raise at.below("id").error(f"the id {name!r} is there twice")
            taken.add(name)
        return tuple(steps)

    def _step(self, action: Mapping[str, Any], place: Place) -> Step:
        kind = next(kind for kind in self._kinds if kind in action)
        for_each = None
        inner = place
        if "for_each" in action:
            for_each = self.for_each(action["for_each"], place.below("for_each"))
            inner = place.seeing("item", "index")
        make, names = self._kinds[kind](action, inner)
        conditions = self._values.when(action.get("when", []), place.below("when"))
        rescue, goes_on = self._on_failure(action.get("on_failure", "stop"), inner)
        limit = 0.0 if kind == "local" or "timeout" not in action else seconds(action["timeout"])
        return Step(
            ident=place.ident,
            id=action.get("id", ""),
            make=make,
            kind=kind,
            spot=spot_of(place),
            conditions=conditions,
            for_each=None if for_each is None else for_each.of(),
            retry=_retry(action["retry"]) if "retry" in action else None,
            timeout=limit,
            rescue=rescue,
            goes_on=goes_on,
            names=names
            | names_of(condition.names for condition in conditions)
            | names_of(step.names for step in rescue)
            | (for_each.names if for_each else frozenset()),
        )

    def for_each(self, value: Any, place: Place) -> Value:
        """Compile what ``for_each`` goes through."""
        if isinstance(value, str):
            return self._values.expression(value, place)
        return self._values.value(value, place)

    def _on_failure(self, value: Any, place: Place) -> tuple[tuple[Step, ...], bool]:
        if isinstance(value, str):
            return (), value == "continue"
        at = place.below("on_failure").seeing("failure")
        if isinstance(value, dict):
            steps = self.steps(value["do"], at.below("do")) if "do" in value else ()
            return steps, value.get("then", "stop") == "continue"
        return self.steps(value, at), False

    def _local(self, action: Mapping[str, Any], place: Place) -> tuple[Make, frozenset[str]]:
        target = self._values.value(action["tgt"], place.below("tgt"))
        args, kwargs = self._arguments(action, place)
        function, target_type = action["local"], action.get("tgt_type", "glob")
        options = {"timeout": seconds(action["timeout"])} if "timeout" in action else {}
        # Who says what to do if it fails wants to know whether it did.
        wait = action.get("wait", "retry" in action or "on_failure" in action)
        if wait is not False:
            options["wait"] = _patience(wait, options.get("timeout", DEFAULT_WAIT))
        who = checked(target, is_target, "text or a list of texts", place.below("tgt"))
        get_args, get_kwargs, ident, source = args.of(), kwargs.of(), place.ident, place.source

        def call(values: Values) -> Call:
            return Call(
                "local",
                function,
                tuple(get_args(values)),
                get_kwargs(values),
                who(values),
                target_type,
                options=options,
                ident=ident,
                source=source,
            )

        return call, target.names | args.names | kwargs.names

    def _function(
        self, kind: str, action: Mapping[str, Any], place: Place
    ) -> tuple[Make, frozenset[str]]:
        args, kwargs = self._arguments(action, place)
        function, get_args, get_kwargs = action[kind], args.of(), kwargs.of()
        ident, source = place.ident, place.source

        def call(values: Values) -> Call:
            arguments = tuple(get_args(values))
            return Call(kind, function, arguments, get_kwargs(values), ident=ident, source=source)

        return call, args.names | kwargs.names

    def _event(self, action: Mapping[str, Any], place: Place) -> tuple[Make, frozenset[str]]:
        tag = self._values.value(action["event"], place.below("event"))
        data = self._values.mapping(action.get("data", {}), place.below("data"))
        get_tag, get_data, ident, source = tag.of(), data.of(), place.ident, place.source
        spot = spot_of(place.below("event"))
        fixed = "" if tag.closure else checked_tag(tag.constant, spot)

        def call(values: Values) -> Call:
            return Call(
                "event",
                fixed or checked_tag(get_tag(values), spot),
                data=get_data(values),
                ident=ident,
                source=source,
            )

        return call, tag.names | data.names

    def _exec(self, action: Mapping[str, Any], place: Place) -> tuple[Make, frozenset[str]]:
        at, command, shell = place.below("exec"), action["exec"], action.get("shell", False)
        if isinstance(command, str) is not shell:
            raise at.error(
                "with 'shell: true' exec is one text, else a list: the program and its arguments"
            )
        argv = self._values.value(command, at)
        if shell and argv.closure is not None:
            raise at.error(
                "{{ }} cannot stand in a text that a shell reads, as event data would become "
                "commands: give it in 'env' and write \"$NAME\" here"
            )
        if not shell and self._values.value(command[0], at).closure is not None:
            raise at.below(0).error("the program to run cannot be a template")
        make = (
            checked(argv, _is_argv, "a list of texts and numbers", at) if not shell else argv.of()
        )
        options, names = self._options(action, ("stdin", "env", "cwd"), place)
        ident, source = place.ident, place.source

        def call(values: Values) -> Call:
            made = make(values)
            program, *arguments = [made] if shell else [str(part) for part in made]
            return Call(
                "exec",
                program,
                tuple(arguments),
                options={**options(values), "shell": shell},
                ident=ident,
                source=source,
            )

        return call, argv.names | names

    def _other(
        self, kind: str, action: Mapping[str, Any], place: Place
    ) -> tuple[Make, frozenset[str]]:
        at = place.below(kind)
        silent = {"body", "json"} & action.keys() or action.get("method") in _WITHOUT_BODY
        if kind == "http" and not silent:
            action = {**action, "json": "{{ payload }}"}
        what = self._values.value(action[kind], at)
        if kind == "notify" and what.closure is not None:
            raise at.error("whom to notify cannot be a template: name an entry of 'reactor_notify'")
        get_what = checked(what, is_text, "text", at)
        options, names = self._options(action, _OPTIONS[kind], place)
        ident, source = place.ident, place.source

        def call(values: Values) -> Call:
            return Call(kind, get_what(values), options=options(values), ident=ident, source=source)

        return call, what.names | names

    def _options(
        self, action: Mapping[str, Any], names: Sequence[str], place: Place
    ) -> tuple[Callable[[Values], dict[str, Any]], frozenset[str]]:
        """Compile what is given of the options ``names``."""
        found = {
            name: self._values.value(action[name], place.below(name))
            for name in names
            if name in action
        }
        makers = [(name, value.of()) for name, value in found.items()]
        used = names_of(value.names for value in found.values())
        return lambda values: {name: make(values) for name, make in makers}, used

    def _arguments(self, action: Mapping[str, Any], place: Place) -> tuple[Value, Value]:
        args = self._values.arguments(action.get("args", []), place.below("args"))
        return args, self._values.mapping(action.get("kwargs", {}), place.below("kwargs"))


def _patience(wait: Any, timeout: float) -> float:
    return timeout + _GRACE if wait is True else seconds(wait)


def _retry(value: Any) -> Retry:
    given = {"times": value} if isinstance(value, int) else value
    return Retry(
        times=given.get("times", DEFAULT_TIMES),
        backoff=seconds(given.get("backoff", DEFAULT_BACKOFF)),
        max=seconds(given.get("max", DEFAULT_MAX)),
        jitter=given.get("jitter", DEFAULT_JITTER),
    )


def _is_argv(value: Any) -> bool:
    return (
        is_list(value)
        and bool(value)
        and all(isinstance(part, str | int | float) for part in value)
    )


def seconds(value: float | str) -> float:
    """Return a duration that the schema allows in seconds."""
    return durations.seconds(value)

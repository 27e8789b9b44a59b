# SPDX-License-Identifier: Apache-2.0
"""Where the Python library differs from the table of methods.

Each method of the table becomes a function: its name has underscores for dots, required parameters are positional,
optional ones are keywords, and the function returns nothing, the only field of the answer, or a dataclass of all its
fields. A method needs a line here where a function for people should look different.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from privcmdd.wire.table import common, evtchn

WHOLE: Final = "*"
"""A call returns the map of the answer, unchanged."""


@dataclass(frozen=True, slots=True)
class Face:
    """How one method looks in Python; where an attribute is empty, the table decides.

    Attributes:
        name: The function's name.
        params: Parameters in their order, by the table's names; ``*`` before those by keyword, or before a name that
            takes any number of values. Parameters that are not listed are not for callers in Python.
        names: Python's name of a parameter, where it differs from the table's.
        types: The annotation of a parameter.
        defaults: Default of a parameter, as Python source.
        send: The expression that is sent for a parameter; a parameter that is not listed in `params` is always this.
        args: The documentation of a parameter.
        value: What the function returns: a field, by its name, and the name of the class of its rows; several fields,
            as a tuple; a class made of the answer's fields; `WHOLE`.
        fields: Annotations of fields of that class.
        read: What the function returns: its type, and the expression of ``answer`` and ``fds`` that makes it.
        summary: The first line of the documentation.
        never: Errors that cannot happen with the parameters of the function.
    """

    name: str = ""
    params: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    send: Mapping[str, str] = field(default_factory=dict)
    args: Mapping[str, str] = field(default_factory=dict)
    value: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    read: tuple[str, str] | None = None
    summary: str = ""
    never: tuple[str, ...] = ()


GROUPS: Final[Mapping[str, tuple[str, str]]] = {
    "evtchn": ("Events", "Event channels: ``client.events.bind_interdomain(...)`` and so on."),
    "domain": ("Domains", "The simulated domains: ``client.domains.create(...)`` and so on."),
    "faults": ("Rules", "Injections: ``client.faults.add(...)`` and so on."),
}
"""Methods that are called by an attribute of the client: how their names begin -> their class and its docstring."""

HIDDEN: Final = (common.FILE, common.NUM, common.ENTRY_NUM)
"""Parameters that only a kernel's driver needs."""

NAMES: Final = {"len": "length", "type": "kind", "id": "number"}
"""Python's name of a parameter, where the table's name is that of a builtin."""

WORDS: Final = {common.ARR: "the frames, one a page", common.PROT: "bits of ``PROT_*``"}
"""The documentation of parameters that several methods share."""

HOLDERS: Final = evtchn.EVENTS
"""What the table says of descriptors, left out where an object of the library holds the descriptors."""

_MEMORY: Final = ("MemoryFile", 'MemoryFile(fds[0], answer["size_bytes"])')
_CHANNEL: Final = ("EventChannel", 'EventChannel(answer["port"], on, fds)')
_EXTENTS: Final = 'numbers(answer.get("extents"), "I")'
_BATCH: Final = 'Batch(answer["ret"], answer["n_failed"], numbers(answer["{}"], "{}"), ' + _EXTENTS + ")"
_PAGING: Final = Face(
    names={"arr": "gfns"}, read=("Batch", 'Batch(0, answer["n_failed"], numbers(answer["err"], "i"), None)')
)

FACES: Final[Mapping[str, Face]] = {
    "hello": Face(params="* features client job", send={"protocol": "[1]"}, value=WHOLE),
    "health": Face(value="Health"),
    "describe": Face(value=WHOLE, summary="Get the broker's table of methods, for programs."),
    "subscribe": Face(params="*topics"),
    "findings.list": Face("findings", value="findings Finding"),
    "findings.clear": Face("clear_findings"),
    "job.list": Face("jobs", value="JobRow"),
    "evict": Face(params="* connection job uid", value=WHOLE),
    "space.attach": Face("attach", "space * personality probe merge", value="Space"),
    "space.fork": Face("fork"),
    "space.list": Face("spaces", "* dom", value="SpaceRow"),
    "hand_over": Face(read=("int", "fds[0]")),
    "space.buffers": Face("buffers", read=_MEMORY),
    "mmap": Face(params="addr len prot * fixed file", value="addr"),
    "fault": Face(params="addr access", value="Fault"),
    "maps": Face(value="MapEntry"),
    "privcmd.mmap": Face(value="extents"),
    "privcmd.mmapbatch": Face(read=("Batch", _BATCH.format("arr", "Q")), never=("EFAULT",)),
    "privcmd.mmapbatch_v2": Face(
        params="dom addr arr * extents", read=("Batch", _BATCH.format("err", "i")), never=("EFAULT",)
    ),
    "privcmd.restrict": Face("restrict"),
    "privcmd.mmap_resource": Face("mmap_resource", value=WHOLE),
    "privcmd.hypercall": Face(
        "hypercall",
        "op *arg",
        names={"arg": "args"},
        types={"arg": "int"},
        send={"arg": "hypercall_arguments(args)"},
        args={"arg": "its arguments, at most five"},
        value="ret",
        never=("EINVAL",),
    ),
    "privcmd.dm_op": Face("dm_op", value="ret bufs"),
    "privcmd.unknown_ioctl": Face("unknown_ioctl", value="ret"),
    "gntdev.map": Face(
        "map_grants", names={"arr": "refs"}, types={"arr": "Sequence[int]"}, send={"arr": "list(refs)"}, value=WHOLE
    ),
    "gntdev.copy": Face(
        "copy_grants",
        "segments data",
        defaults={"data": 'b""'},
        send={"segments": "grant_segments(segments)"},
        args={
            "segments": "what to copy: `flags` (1: the source is a grant, 2: the destination is one), `len`, and "
            "of each end that is a grant `source_dom`, `source_ref`, `source_offset`, `dest_dom`, "
            "`dest_ref`, `dest_offset`"
        },
        value="status data",
    ),
    "gntdev.notify": Face("notify_unmapped", "addr action port"),
    "gntalloc.alloc": Face(
        "share_pages", defaults={"num": "1"}, read=("SharedPages", 'SharedPages(answer["refs"], fds[0], 0, 3)')
    ),
    "gntalloc.free": Face("unshare_pages"),
    "gntalloc.notify": Face("notify_unshared"),
    "gntalloc.map": Face(
        "map_shared",
        read=("SharedPages", 'SharedPages(list(refs[: answer["num"]]), fds[0], answer["page"], answer["prot"])'),
    ),
    "evtchn.alloc_unbound": Face(read=_CHANNEL),
    "evtchn.bind_interdomain": Face(read=_CHANNEL),
    "evtchn.bind_virq": Face(read=_CHANNEL),
    "evtchn.attach": Face(read=("EventChannel", "EventChannel(port, on, fds)")),
    "evtchn.list": Face(value="PortRow"),
    "ioreq.servers": Face(value="IoreqServer", fields={"ranges": "dict[str, list[list[int]]]"}),
    "guest.interrupts": Face("interrupts", value="Interrupts"),
    "domain.create": Face(value="dom"),
    "domain.list": Face(value="DomainRow"),
    "domain.info": Face(
        value="DomainInfo",
        fields={"frames": "array[int]"},
        read=("DomainInfo", 'pick(DomainInfo, answer, frames=numbers(answer.get("frames"), "Q"))'),
    ),
    "domain.memory": Face(read=_MEMORY),
    "domain.populate": Face(
        names={"arr": "gfns"},
        value="Populated",
        fields={"frames": "array[int]"},
        read=("Populated", 'pick(Populated, answer, frames=numbers(answer["frames"], "Q"))'),
    ),
    "domain.decrease_reservation": Face(names={"arr": "frames"}, value="done"),
    "domain.page_out": _PAGING,
    "domain.page_in": _PAGING,
    "faults.add": Face(
        params="* frame_errno paged errno delay_ms drop when client connection pid uid dom gfns method nth times "
        "probability_ppm seed keep",
        names={"probability_ppm": "probability"},
        types={
            "frame_errno": "str | int",
            "errno": "str | int",
            "gfns": "Iterable[int | range]",
            "probability_ppm": "float",
        },
        defaults={"probability_ppm": "None", "seed": "None"},
        send={
            "frame_errno": "errno_name(frame_errno)",
            "errno": "errno_name(errno)",
            "gfns": "runs(gfns)",
            "probability_ppm": "round(probability * PPM)",
        },
        args={
            "frame_errno": "what happens: a frame fails with this errno, by its name or number",
            "errno": "what happens: the request fails with this errno, by its name or number, before it does anything",
            "gfns": "only these frames, as a mapping names them (pv: mfns): a range, or any integers and ranges, in at "
            "most 64 runs; in a rule about requests: only requests that name one",
            "probability_ppm": "the probability that it takes a match, above 0 and up to 1",
        },
    ),
    "faults.list": Face(
        read=("list[InjectedFault]", '[pick(InjectedFault, row) for row in answer["faults"]]'),
    ),
    "faults.clear": Face(params="id", names={"id": "id"}),
}
"""Method -> how it looks."""

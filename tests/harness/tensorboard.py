"""Reads the event files that TensorBoard reads."""

import struct


def events(folder):
    """(step, metric, value) of all event files, as they stand there."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.glob("**/*tfevents*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event, data = Event.FromString(data[12 : 12 + length]), data[16 + length :]
            found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
    return found

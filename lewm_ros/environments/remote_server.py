"""Serves an environment to a `RemoteEnvironment`; runs in any Python from 3.8 on that has numpy, without this package.

    python remote_server.py SOCKET MODULE:FACTORY '{"argument": 1}'

FACTORY, called with the arguments, gives an object with

    describe() -> {"name", "channels", "control_hz", "cameras", "vectors", "budget_steps"}
    problems(seed) -> an iterator of problems, of any kind
    reset(problem), step(action)
    observe() -> {"frames": {name: uint8 (height, width, 3)}, "vectors": {name: (n,)}}
    goals() -> a list of these
    labels() -> {name: (n,)}
    score() -> {"value", "unit", "success"}; it may have "stages" ({name: whether it was got to}, in order), "cost", and
        "over", whether the problem has ended
    record(number, seed) -> {"steps", "notes"}, and act() -> the action that the behaviour takes next; it may have
        "problem", the one that the behaviour solves
    random(seed), after which act() gives the actions of a behaviour that knows nothing
    expert(), if it has one, after which act() gives the actions of what solves the present problem

`channels` are mappings of name, kind, unit, low, high and rest; `vectors` give the names of each vector's numbers.

A message is the sizes of its two parts as eight bytes each, big-endian, then a JSON text, and the bytes of its arrays
one after the other; in the JSON an array stands as {"array": [dtype, shape]}.
"""

import importlib
import json
import socket
import struct
import sys
import traceback

import numpy as np

VERSION = 2
HEAD = struct.Struct(">QQ")


def send(connection, content):
    """Send a nested structure of dicts, lists, numbers, strings and arrays."""
    arrays = []
    text = json.dumps(_packed(content, arrays)).encode()
    body = b"".join(array.tobytes() for array in arrays)
    connection.sendall(HEAD.pack(len(text), len(body)) + text + body)


def receive(connection):
    """What `send` sent; EOFError if the other side is gone."""
    text_size, body_size = HEAD.unpack(_exactly(connection, HEAD.size))
    text, body = _exactly(connection, text_size), _exactly(connection, body_size)
    return _unpacked(json.loads(text.decode()), [0], body)


def _packed(content, arrays):
    if isinstance(content, dict):
        return {str(key): _packed(value, arrays) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_packed(value, arrays) for value in content]
    if isinstance(content, np.ndarray):
        arrays.append(np.ascontiguousarray(content))
        return {"array": [content.dtype.str, list(content.shape)]}
    return content.item() if isinstance(content, np.generic) else content


def _unpacked(content, offset, body):
    if isinstance(content, dict) and list(content) == ["array"]:
        dtype, shape = np.dtype(content["array"][0]), tuple(content["array"][1])
        size = dtype.itemsize * int(np.prod(shape))
        array = np.frombuffer(body, dtype, int(np.prod(shape)), offset[0]).reshape(shape).copy()
        offset[0] += size
        return array
    if isinstance(content, dict):
        return {key: _unpacked(value, offset, body) for key, value in content.items()}
    if isinstance(content, list):
        return [_unpacked(value, offset, body) for value in content]
    return content


def _exactly(connection, size):
    parts = []
    while size:
        part = connection.recv(min(size, 1 << 20))
        if not part:
            raise EOFError("the other side has closed the connection")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


class Server:
    """Answers the calls of one client, one after the other."""

    def __init__(self, environment):
        self.environment = environment
        self.problems = {}
        self.drawn = []

    def answer(self, call, arguments):
        """The result of a call; problems stay here, and are known to the client by number."""
        if call == "describe":
            return {"version": VERSION, **self.environment.describe()}
        if call == "next_problem":
            (seed,) = arguments
            if seed not in self.problems:
                self.problems[seed] = iter(self.environment.problems(seed))
            return self._number(next(self.problems[seed]))
        if call == "restart_problems":
            self.problems.pop(arguments[0], None)
            return None
        if call == "reset":
            return self.environment.reset(self.drawn[arguments[0]])
        if call == "expert":
            begin = getattr(self.environment, "expert", None)
            if begin is not None:
                begin()
            return begin is not None
        result = getattr(self.environment, call)(*arguments)
        if call == "record" and "problem" in result:
            return {**result, "problem": self._number(result["problem"])}
        return result

    def _number(self, problem):
        """By which the client knows a problem from now on."""
        self.drawn.append(problem)
        return len(self.drawn) - 1


def main(path, factory, arguments):
    """Connect to the client's socket and serve it until it goes."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(path)
    try:
        module, _, name = factory.partition(":")
        server = Server(getattr(importlib.import_module(module), name)(**json.loads(arguments)))
    except Exception:
        send(connection, {"error": traceback.format_exc(limit=-1).strip().splitlines()[-1]})
        return 2
    send(connection, {"result": None})
    while True:
        try:
            call = receive(connection)
        except EOFError:
            return 0
        try:
            reply = {"result": server.answer(call["call"], call["arguments"])}
        except Exception:
            reply = {"error": traceback.format_exc(limit=-1).strip().splitlines()[-1]}
        send(connection, reply)


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file, whose modules would hide others of their names, such as gymnasium
    sys.exit(main(*sys.argv[1:4]))

"""JSON as the service hashes it.

Owns the one text of a value (RFC 8785) and the two hashes over it. A value that two programs could read in two ways has no text
here: the same are refused that the service refuses, under the same code, before anything is sent.
"""

import decimal
import hashlib
import json
from collections.abc import Mapping
from typing import Any

NUMBER_MAGNITUDE_MAX = 2**53 - 1
PAYLOAD_DEPTH_MAX = 64
# The service's records wrap what it accepted.
ANSWER_DEPTH_MAX = 72


class Unsendable(ValueError):
    """What the service would refuse unread. `code` is the service's own, such as `number_out_of_range`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


def canonical(value: object, depth_max: int = PAYLOAD_DEPTH_MAX) -> str:
    """The text of a value that is hashed (RFC 8785). Takes dict, list, tuple, str, bool, int, float and None.

    Raises `Unsendable` for a number whose magnitude is above 2^53-1 or that is none, a lone surrogate, a name that is no
    string, any other type, and more than `depth_max` open containers.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, str):
        return _string(value)
    if depth_max == 0:
        raise Unsendable("too_deep", f"more than {PAYLOAD_DEPTH_MAX} open containers")
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise Unsendable("malformed_json", "a name of an object is no string")
        # By UTF-16 code units: a surrogate sorts before U+E000.
        names = sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(f"{_string(name)}:{canonical(value[name], depth_max - 1)}" for name in names) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(canonical(item, depth_max - 1) for item in value) + "]"
    raise Unsendable("malformed_json", f"{type(value).__name__} is nothing that JSON has")


def _integer(value: int) -> str:
    if abs(value) > NUMBER_MAGNITUDE_MAX:
        raise Unsendable("number_out_of_range", "an integer is above 2^53-1: send it as a string")
    # A subclass may write itself differently.
    return int.__repr__(value)


def _number(value: float) -> str:
    """ECMAScript's form of a double, which has the shortest digits that read back: so has Python's repr."""
    if not abs(value) <= NUMBER_MAGNITUDE_MAX:
        raise Unsendable("number_out_of_range", "a number is above 2^53-1, or is none")
    if value.is_integer():
        return int.__repr__(int(value))
    sign, digit, exponent = decimal.Decimal(float.__repr__(value)).as_tuple()
    if not isinstance(exponent, int):
        raise Unsendable("number_out_of_range", "it is no number")
    digits = "".join(map(str, digit)).rstrip("0")
    point = len(digit) + exponent
    if point > 0:
        text = f"{digits[:point]}.{digits[point:]}"
    elif point > -6:
        text = f"0.{'0' * -point}{digits}"
    else:
        text = f"{digits[0]}{'.' if digits[1:] else ''}{digits[1:]}e{point - 1}"
    return f"-{text}" if sign else text


def _string(value: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise Unsendable("lone_surrogate", "a string has half a surrogate pair")
    return json.dumps(value, ensure_ascii=False)


def read(text: str | bytes) -> Any:
    """The value of a JSON text that every parser reads alike. Raises `Unsendable`, with the service's code."""
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        return json.loads(
            text, object_pairs_hook=_object, parse_int=_read_integer, parse_float=_read_number, parse_constant=_constant
        )
    except UnicodeDecodeError:
        raise Unsendable("invalid_utf8", "the text is not UTF-8") from None
    except RecursionError:
        raise Unsendable("too_deep", "too many open containers") from None
    except json.JSONDecodeError as error:
        raise Unsendable("malformed_json", f"{error.msg} at character {error.pos}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise Unsendable("duplicate_key", "an object has a name twice")
    return made


def _read_integer(text: str) -> int:
    if len(text) > 17:
        raise Unsendable("number_out_of_range", "an integer is above 2^53-1: send it as a string")
    return int(text)


def _read_number(text: str) -> float:
    value = float(text)
    if not abs(value) <= NUMBER_MAGNITUDE_MAX:
        raise Unsendable("number_out_of_range", "a number is above 2^53-1: send it as a string")
    if value == 0 and any(digit in "123456789" for digit in text.lower().partition("e")[0]):
        raise Unsendable("number_out_of_range", "a number is too near to zero for a double")
    return value


def _constant(text: str) -> Any:
    raise Unsendable("malformed_json", f"{text} is no JSON")


def exec_id(action: str, payload: object, nonce: str) -> str:
    """The id of a call: SHA-256, in hex, of the canonical `{"action":..,"nonce":..,"payload":..}`."""
    return _sha256(
        "{" + f'"action":{_string(action)},"nonce":{_string(nonce)},"payload":{canonical(payload)}' + "}"
    )


def receipt(id: str, result: object) -> str:
    """The receipt of a result: SHA-256, in hex, of the id, a colon and the canonical result."""
    return _sha256(f"{id}:{canonical(result, ANSWER_DEPTH_MAX)}")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

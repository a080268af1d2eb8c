"""Begin and end a PKCS#11 library for use by several threads at once, which `python-pkcs11` does not.

It calls `C_Initialize(NULL)`, which promises that only one thread will ever call; SoftHSM then switches its locks off.
Here the same call says CKF_OS_LOCKING_OK. Spec: PKCS#11 2.40 base §5.4 (C_Initialize, C_Finalize, C_GetFunctionList).
"""

import ctypes
from typing import ClassVar

_OS_LOCKING_OK = 2
_OK, _CANNOT_LOCK = 0x0, 0xA
_Call = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)


class _Arguments(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS: no locks of ours, those of the system."""

    _fields_: ClassVar = [
        ("locks", ctypes.c_void_p * 4),
        ("flags", ctypes.c_ulong),
        ("reserved", ctypes.c_void_p),
    ]


class _Functions(ctypes.Structure):
    """The beginning of CK_FUNCTION_LIST."""

    _fields_: ClassVar = [("version", ctypes.c_ubyte * 2), ("initialize", _Call), ("finalize", _Call)]


class Library:
    """A PKCS#11 library that this process has loaded; there is one of each in a process, however often it is loaded."""

    def __init__(self, module: str) -> None:
        """Load it. Raises: OSError."""
        self._library = ctypes.CDLL(module)
        functions = ctypes.POINTER(_Functions)()
        code = self._library.C_GetFunctionList(ctypes.byref(functions))
        if code != _OK:
            raise OSError(f"{module}: C_GetFunctionList says {code:#x}")
        self._functions = functions.contents

    def begin(self) -> bool:
        """Begin anew, whatever was before; False when only one thread may call. Raises: OSError."""
        self.end()
        arguments = _Arguments(flags=_OS_LOCKING_OK)
        code = self._functions.initialize(ctypes.addressof(arguments))
        if code == _CANNOT_LOCK:
            code = self._functions.initialize(None)
            if code == _OK:
                return False
        if code != _OK:
            raise OSError(f"C_Initialize says {code:#x}")
        return True

    def end(self) -> None:
        """End every session; nobody may be in a call."""
        self._functions.finalize(None)

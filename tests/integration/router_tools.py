"""Sonia's first tools, as a model is told of them."""

from sonia.types import ToolSpec

OFFERED: dict[str, tuple[str, tuple[str, ...]]] = {
    "file.read": ("Read a text file of the workspace.", ("path",)),
    "file.list": ("List the files in a folder of the workspace.", ("path",)),
    "file.write": ("Write text to a file of the workspace.", ("path", "content")),
    "shell.run": ("Run a shell command on this computer.", ("command",)),
    "system.info": ("This computer's operating system, processor, memory and disk.", ()),
    "math.evaluate": ("Evaluate an arithmetic expression exactly.", ("expression",)),
}
TOOLS = tuple(
    ToolSpec(
        name=name,
        description=description,
        parameters={
            "type": "object",
            "properties": {field: {"type": "string"} for field in fields},
            "required": list(fields),
            "additionalProperties": False,
        },
    )
    for name, (description, fields) in OFFERED.items()
)

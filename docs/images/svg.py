"""A picture of a terminal: what `tmux capture-pane -e -p` printed, read from standard input, as SVG on standard output.

Blocks, shades and lines are drawn as shapes and not as characters, because fonts leave gaps between them.
Needs nothing but Python 3.
"""

import html
import re
import sys

CELL_WIDTH, CELL_HEIGHT, FONT_SIZE, MARGIN = 8.4, 18, 14, 14
BACKGROUND, FOREGROUND, DIM = "#0d1117", "#d5dbe3", "#7d8794"
COLOURS = {31: "#ff7b72", 32: "#56d364", 33: "#e3b341", 36: "#58c4dc"}
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def cells(line, style):
    """The characters of a line with their colours and weights, and the style that goes on in the next line."""
    found = []
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if not part.startswith("\x1b"):
            found += [(character, style) for character in part]
            continue
        for code in [int(code or 0) for code in part[2:-1].split(";")]:
            colour, bold, dim = style
            if code == 0:
                style = (None, False, False)
            elif code == 1:
                style = (colour, True, dim)
            elif code == 2:
                style = (colour, bold, True)
            elif code == 39:
                style = (None, bold, dim)
            elif code in COLOURS:
                style = (COLOURS[code], bold, dim)
    return found, style


def shape(character, x, y):
    """A block or a line as x, y, width, height; None for all other characters."""
    eighths = "▁▂▃▄▅▆▇█".find(character) + 1
    if eighths:
        height = CELL_HEIGHT * eighths / 8
        return x, y + CELL_HEIGHT - height, CELL_WIDTH, height
    if character in "▒░":
        return x, y, CELL_WIDTH, CELL_HEIGHT
    if character == "─":
        return x, y + CELL_HEIGHT / 2 - 0.5, CELL_WIDTH, 1
    return None


def draw(lines):
    """The elements of all lines."""
    elements, style = [], (None, False, False)
    for row, line in enumerate(lines):
        characters, style = cells(line, style)
        y = MARGIN + row * CELL_HEIGHT
        at = 0
        while at < len(characters):
            character, look = characters[at]
            end = at + 1
            is_shape = shape(character, 0, 0) is not None
            same = (lambda c: c == character) if is_shape else (lambda c: shape(c, 0, 0) is None)
            while end < len(characters) and characters[end][1] == look and same(characters[end][0]):
                end += 1
            elements.append(run([c for c, _ in characters[at:end]], look, MARGIN + at * CELL_WIDTH, y, is_shape))
            at = end
    return [element for element in elements if element]


def run(characters, look, x, y, is_shape):
    """Characters of one look that stand beside each other."""
    colour, bold, dim = look
    fill = colour or (DIM if dim else FOREGROUND)
    if is_shape:
        left, top, width, height = shape(characters[0], x, y)
        width *= len(characters)
        return f'<rect x="{left:.1f}" y="{top:.2f}" width="{width:.1f}" height="{height:.2f}" fill="{fill}"/>'
    text = "".join(characters)
    start = len(text) - len(text.lstrip(" "))
    text = text.strip(" ")
    if not text:
        return ""
    weight = ' font-weight="bold"' if bold else ""
    left, width = x + start * CELL_WIDTH, len(text) * CELL_WIDTH
    return (
        f'<text x="{left:.1f}" y="{y + CELL_HEIGHT * 0.74:.1f}" textLength="{width:.1f}" fill="{fill}"{weight}>'
        f"{html.escape(text)}</text>"
    )


def main():
    lines = sys.stdin.read().rstrip("\n").split("\n")
    columns = max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in lines)
    width, height = round(columns * CELL_WIDTH + 2 * MARGIN), len(lines) * CELL_HEIGHT + 2 * MARGIN
    print(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">')
    print(f'<rect width="{width}" height="{height}" rx="8" fill="{BACKGROUND}"/>')
    print(f'<g font-family="{FONT}" font-size="{FONT_SIZE}" xml:space="preserve">')
    print("\n".join(draw(lines)))
    print("</g>\n</svg>")


main()

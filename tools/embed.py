"""embed.py SYMBOL OUT.c FILE.sql...: the files as one array of struct migration."""
import json
import pathlib
import sys

symbol, out, *files = sys.argv[1:]
with open(out, "w", encoding="utf-8") as o:
    o.write('#include "db/db.h"\n\n')
    o.write(f"extern const struct migration {symbol}[];\n")
    o.write(f"const struct migration {symbol}[] = {{\n")
    for name in sorted(files):
        path = pathlib.Path(name)
        body = "\n".join("        " + json.dumps(line + "\n")
                         for line in path.read_text(encoding="utf-8").splitlines())
        o.write(f'    {{ "{path.stem}",\n{body} }},\n')
    o.write("    { 0 },\n};\n")

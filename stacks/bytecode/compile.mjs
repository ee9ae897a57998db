// node compile.mjs FOLDER SHOWN_AS: runs compile_folder.py, which compiles FOLDER, on the CPython that Pyodide carries.
import { readFileSync } from "node:fs";
import { loadPyodide } from "pyodide";

const [folder, shownAs] = process.argv.slice(2);
// The order of sets must not depend on chance: it would be in the bytecode.
const python = await loadPyodide({ env: { PYTHONHASHSEED: "0" } });
python.mountNodeFS("/folder", folder);
python.runPython(readFileSync(new URL("compile_folder.py", import.meta.url), "utf8"));
const compileFolder = python.globals.get("compile_folder");
console.log(compileFolder("/folder", shownAs));

// Writes relay/assets/vendor: the browser assets of the dashboard that come from npm. The files are in the repository,
// so that building the relay needs neither Node nor a network.
//
//   node build.mjs            writes them
//   node build.mjs --check    fails if they differ from what would be written

import { build } from "esbuild";
import { readFileSync } from "node:fs";
import { mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const HERE = dirname(fileURLToPath(import.meta.url));
const MODULES = join(HERE, "node_modules");
const TARGET = join(HERE, "../../relay/assets/vendor");

/** Files that packages publish in the form in which they are served. */
const COPIES = {
  "htmx.js": "htmx.org/dist/htmx.min.js",
  "idiomorph-ext.js": "idiomorph/dist/idiomorph-ext.min.js",
  "inter.woff2": "@fontsource-variable/inter/files/inter-latin-wght-normal.woff2",
  // The static font has half the size of the variable one, and code needs one weight.
  "mono.woff2": "@fontsource/jetbrains-mono/files/jetbrains-mono-latin-400-normal.woff2",
};

/** The package that a path below node_modules belongs to, such as `@codemirror/view`. */
function packageOf(path) {
  return /^(@[^/]+\/)?[^/]+/.exec(path)[0];
}

async function bundle() {
  const result = await build({
    absWorkingDir: HERE,
    entryPoints: ["src/editor.js"],
    bundle: true,
    format: "esm",
    minify: true,
    target: ["chrome111", "firefox113", "safari16.4"],
    charset: "utf8",
    // LICENSES.txt has them all.
    legalComments: "none",
    metafile: true,
    write: false,
    logLevel: "warning",
  });
  // Only what is left after unused code was removed.
  const [output] = Object.values(result.metafile.outputs);
  const inputs = Object.entries(output.inputs).filter(([, { bytesInOutput }]) => bytesInOutput > 0);
  const modules = inputs.map(([path]) => path.split("node_modules/")[1]).filter(Boolean);
  return { code: result.outputFiles[0].contents, packages: modules.map(packageOf) };
}

function licenceOf(name) {
  const { version, license } = JSON.parse(readFileSync(join(MODULES, name, "package.json"), "utf8"));
  const text = readFileSync(join(MODULES, name, "LICENSE"), "utf8").replaceAll("\r\n", "\n").trim();
  if (!text) throw new Error(`${name} has an empty LICENSE`);
  return { name, version, license, text };
}

function licences(files) {
  const packages = new Map();
  for (const [file, names] of files) {
    for (const name of names) packages.set(name, (packages.get(name) ?? new Set()).add(file));
  }
  const parts = [...packages.keys()].sort().map((name) => {
    const { version, license, text } = licenceOf(name);
    return `${name} ${version} (${license}), in ${[...packages.get(name)].join(", ")}\n\n${text}\n`;
  });
  const line = `\n${"=".repeat(80)}\n\n`;
  return `The dashboard of Tidegate contains these packages.\n${line}${parts.join(line)}`;
}

/** All files, by name. */
async function make() {
  const { code, packages } = await bundle();
  const files = new Map([["editor.js", Buffer.from(code)]]);
  const sources = [["editor.js", packages]];
  for (const [name, path] of Object.entries(COPIES)) {
    files.set(name, await readFile(join(MODULES, path)));
    sources.push([name, [packageOf(path)]]);
  }
  files.set("LICENSES.txt", Buffer.from(licences(sources)));
  return files;
}

async function differences(files) {
  const present = await readdir(TARGET).catch(() => []);
  const wrong = present.filter((name) => !files.has(name)).map((name) => `${name} does not belong there`);
  for (const [name, content] of files) {
    const found = await readFile(join(TARGET, name)).catch(() => null);
    if (!found) wrong.push(`${name} is missing`);
    else if (!found.equals(content)) wrong.push(`${name} differs`);
  }
  return wrong;
}

const files = await make();
if (process.argv.includes("--check")) {
  const wrong = await differences(files);
  if (wrong.length > 0) {
    console.error(`relay/assets/vendor: ${wrong.join("; ")}. Run: npm ci && node build.mjs`);
    process.exit(1);
  }
} else {
  await mkdir(TARGET, { recursive: true });
  for (const [name, content] of files) await writeFile(join(TARGET, name), content);
}
for (const [name, content] of files) {
  const compressed = gzipSync(content, { level: 9 }).length;
  console.log(`${name.padEnd(18)} ${String(content.length).padStart(7)} bytes, gzip ${compressed}`);
}

/** Puts the page together: page.html, one file, from src/ by esbuild. */
import { build } from "esbuild";
import { readFileSync, writeFileSync } from "node:fs";

const read = (name) => readFileSync(new URL(name, import.meta.url), "utf8");

const { outputFiles } = await build({
  entryPoints: [new URL("src/main.tsx", import.meta.url).pathname],
  bundle: true,
  minify: true,
  write: false,
  format: "iife",
  target: "es2022",
  charset: "utf8",
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
});
const style = await build({
  entryPoints: [new URL("src/style/page.css", import.meta.url).pathname],
  bundle: true,
  minify: true,
  write: false,
  target: "es2022",
});
const parts = {
  STYLE: style.outputFiles[0].text.trim(),
  EXAMPLES: read("examples.json").trim(),
  SCRIPT: outputFiles[0].text.trim().replaceAll("</script", "<\\/script"),
};
const page = read("src/shell.html").replace(/\/\*(STYLE|EXAMPLES|SCRIPT)\*\//g, (_, k) => parts[k]);
writeFileSync(new URL("page.html", import.meta.url), page);
console.log(`page.html: ${page.length} characters`);

/** Where the page begins: in a browser it is drawn, and anywhere its numbers can be asked for. */
import { render } from "preact";
import { App, type Data } from "./app";
import * as engine from "./engine";

(globalThis as { jaxLstm?: typeof engine }).jaxLstm = engine;

if (typeof document !== "undefined") {
  const read = (id: string) => JSON.parse(document.getElementById(id)!.textContent!);
  const data: Data = read("own") ?? { runs: [], start: { example: "gomez", mistake: "", row: 0 } };
  const root = document.getElementById("page")!;
  root.textContent = "";
  render(<App data={data} inside={read("examples")} />, root);
}

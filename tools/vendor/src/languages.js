// What each value of the attribute `language` adds to an editor.

import { autocompletion, closeBrackets } from "@codemirror/autocomplete";
import { LRLanguage, indentNodeProp } from "@codemirror/language";
import { parser } from "@lezer/json";
import { celCompletions } from "./cel/completions.js";
import { cel } from "./cel/language.js";
import { problems } from "./problems.js";

const json = LRLanguage.define({
  name: "json",
  parser: parser.configure({
    props: [
      indentNodeProp.add({
        "Object Array": (context) => {
          const closes = /^\s*[}\]]/.test(context.textAfter);
          return context.baseIndent + (closes ? 0 : context.unit);
        },
      }),
    ],
  }),
  languageData: { closeBrackets: { brackets: ["[", "{", '"'] } },
});

export function language(name) {
  switch (name) {
    case "cel":
      return [cel, closeBrackets(), autocompletion({ override: [celCompletions], icons: false }), problems(false)];
    case "json":
      return [json, closeBrackets(), problems(true)];
    default:
      return [problems(false)];
  }
}

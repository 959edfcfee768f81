// Completions of CEL: the names of names.json, which a test of the relay compares with those of its evaluator, and the
// variables that loops of the expression bind.

import { pickedCompletion } from "@codemirror/autocomplete";
import { syntaxTree } from "@codemirror/language";
import names from "./names.json";

/** How much text before the cursor is looked at, in characters. */
const LOOK_BACK = 250;

/** Inserts a call and places the cursor between its parentheses, or after them if the call takes no arguments. */
function insertCall(name, takesArguments) {
  return (view, completion, from, to) => {
    const isCall = view.state.sliceDoc(to, to + 1) === "(";
    const end = from + name.length;
    view.dispatch({
      changes: { from, to, insert: isCall ? name : `${name}()` },
      selection: { anchor: isCall || takesArguments ? end + 1 : end + 2 },
      annotations: pickedCompletion.of(completion),
      userEvent: "input.complete",
    });
  };
}

const variable = ({ name, type, info }) => ({ label: name, type: "variable", detail: type, info });
const field = ({ name, type, info }) => ({ label: name, type: "property", detail: type, info });
const call = ({ name, parameters, returns, info, example }) => ({
  label: name,
  type: "function",
  detail: `${parameters} → ${returns}`,
  info: `${info}\n${example}`,
  apply: insertCall(name, parameters !== "()"),
});

const functionsOn = (on) => names.functions.filter((candidate) => candidate.on === on).map(call);

const GLOBAL = [
  // First in the list: an expression is about them.
  ...names.variables.map((candidate) => ({ ...variable(candidate), boost: 2 })),
  ...functionsOn("global"),
  ...names.literals.map((label) => ({ label, type: "keyword" })),
  { label: "in", type: "keyword", detail: "value in list or map" },
  // A type that is also the name of a conversion is offered once, as the function.
  ...names.types
    .filter((label) => !names.functions.some((candidate) => candidate.on === "global" && candidate.name === label))
    .map((label) => ({ label, type: "type" })),
];
const MEMBERS = functionsOn("value");
const MEMBERS_OF = {
  optional: functionsOn("optional"),
  ...Object.fromEntries(names.variables.filter((it) => it.fields).map((it) => [it.name, it.fields.map(field)])),
};

/** The variables that the loops of an expression bind, as `x` in `body.lines.all(x, x.n > 1)`. */
function boundVariables(text) {
  const bound = text.matchAll(/\.\s*(?:all|exists|exists_one|filter|map|optMap|optFlatMap)\(\s*([A-Za-z_]\w*)\s*,/g);
  const labels = new Set(Array.from(bound, ([, label]) => label));
  return Array.from(labels, (label) => ({ label, type: "variable", detail: "variable of a loop", boost: 1 }));
}

export function celCompletions(context) {
  const { state, pos } = context;
  const inside = syntaxTree(state).resolveInner(pos, -1).name;
  if (inside === "string" || inside === "comment") return null;

  const before = state.sliceDoc(Math.max(0, pos - LOOK_BACK), pos);
  const [word] = /\w*$/.exec(before);
  if (/^\d/.test(word)) return null;
  const from = pos - word.length;
  const list = (options) => ({ from, options, validFor: /^\w*$/ });

  const [operator] = /(\.\s*\??\s*)?$/.exec(before.slice(0, before.length - word.length));
  if (operator) {
    const owner = before.slice(0, before.length - word.length - operator.length);
    // A number such as 1.5 is being typed.
    if (/(^|[^\w.])\d+\s*$/.test(owner)) return null;
    const [, named] = /(?:^|[^\w.`])(\w+)\s*$/.exec(owner) ?? [];
    if (named && Object.hasOwn(MEMBERS_OF, named)) return list(MEMBERS_OF[named]);
    // After `.?` only a field can follow, and the fields of other values are not known.
    return operator.includes("?") ? null : list(MEMBERS);
  }
  if (!word && !context.explicit) return null;
  return list([...boundVariables(state.doc.toString()), ...GLOBAL]);
}

// What is underlined: the error that the server found, and in JSON also what does not parse.

import { ensureSyntaxTree } from "@codemirror/language";
import { forceLinting, linter, setDiagnosticsEffect } from "@codemirror/lint";
import { EditorState, StateEffect, StateField } from "@codemirror/state";
import { EditorView } from "@codemirror/view";

const setServerError = StateEffect.define();

/** The server's error as a diagnostic, or null. It is about the text that was sent, so an edit removes it. */
const serverError = StateField.define({
  create: () => null,
  update(value, transaction) {
    for (const effect of transaction.effects) if (effect.is(setServerError)) return effect.value;
    return transaction.docChanged ? null : value;
  },
});

/** Removes the underline in the transaction of the edit, because the linter runs only after a pause. */
const clearOnEdit = EditorState.transactionExtender.of((transaction) =>
  transaction.docChanged && transaction.startState.field(serverError, false)
    ? { effects: setDiagnosticsEffect.of([]) }
    : null,
);

/** The underline alone says nothing to a screen reader. */
const announced = EditorView.contentAttributes.of((view) => {
  const error = view.state.field(serverError);
  return error ? { "aria-invalid": "true", "aria-description": error.message } : {};
});

/** How long a check may parse, in milliseconds. The page does not react meanwhile. */
const PARSE_MS = 50;

/** The first place at which the text is not JSON; what follows it is mostly a consequence of it. */
function jsonErrors(state) {
  let found = null;
  // None for a text that takes longer to parse; what is too long to be checked is not wrong.
  ensureSyntaxTree(state, state.doc.length, PARSE_MS)?.iterate({
    enter({ type, from, to }) {
      if (type.isError && !found) found = range(state, from, to);
      return !found;
    },
  });
  return found ? [{ ...found, severity: "error", message: "This is not valid JSON." }] : [];
}

/** A range that can be seen: a place without text is widened to the character after or before it. */
function range({ doc }, from, to) {
  if (to > from) return { from, to };
  const line = doc.lineAt(from);
  if (from < line.to) return { from, to: from + 1 };
  return { from: Math.max(line.from, from - 1), to: from };
}

/** What a line and a column name, both from 1: the word that begins there, or a character. */
function rangeAt(state, line, column) {
  const at = state.doc.line(Math.min(Math.max(Math.trunc(line) || 1, 1), state.doc.lines));
  // The relay counts characters, and the editor UTF-16 units, of which some characters have two.
  const before = Array.from(at.text).slice(0, Math.max(Math.trunc(column) || 1, 1) - 1).join("");
  const from = at.from + before.length;
  const [word] = /^\w*/.exec(at.text.slice(before.length));
  return range(state, from, from + word.length);
}

export function problems(isJson) {
  const find = ({ state }) => {
    const error = state.field(serverError);
    return [...(error ? [error] : []), ...(isJson && state.doc.length > 0 ? jsonErrors(state) : [])];
  };
  const needsRefresh = (update) => update.startState.field(serverError, false) !== update.state.field(serverError);
  return [serverError, clearOnEdit, announced, linter(find, { delay: 300, needsRefresh })];
}

export function showServerError(view, { line, column, message }) {
  const error = { ...rangeAt(view.state, line, column), severity: "error", message: String(message) };
  view.dispatch({ effects: [setServerError.of(error), EditorView.scrollIntoView(error.from)] });
  forceLinting(view);
}

export function clearServerError(view) {
  view.dispatch({ effects: setServerError.of(null) });
  forceLinting(view);
}

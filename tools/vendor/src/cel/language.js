// Highlighting of CEL, token by token, as the lexer of the relay reads it. The relay alone says what is wrong with an
// expression: a second parser here would sooner or later disagree with it.

import { StreamLanguage } from "@codemirror/language";
import { tags } from "@lezer/highlight";
import names from "./names.json";

const VARIABLES = new Set(names.variables.map((variable) => variable.name));
const TYPES = new Set(names.types);

const NUMBER = /^(0x[\da-fA-F]+[uU]?|(\d+\.\d+|\.\d+|\d+)([eE][+-]?\d+)?[uU]?)/;
const STRING_START = /^([bB]?[rR]?)("""|'''|"|')/;

/** Reads the rest of a string that is open on this line. */
function readString(stream, state) {
  const { quote, raw } = state.string;
  while (!stream.eol()) {
    if (stream.match(quote)) {
      state.string = null;
      return "string";
    }
    if (stream.next() === "\\" && !raw) stream.next();
  }
  // Only a string in three quotes continues on the next line.
  if (quote.length === 1) state.string = null;
  return "string";
}

function readName(stream, state) {
  const name = stream.current();
  const isField = state.afterDot;
  state.afterDot = false;
  if (/^\s*\(/.test(stream.string.slice(stream.pos))) return "function";
  if (isField) return "property";
  if (name === "in") return "keyword";
  if (names.literals.includes(name)) return "literal";
  if (VARIABLES.has(name)) return "root";
  return TYPES.has(name) ? "type" : "name";
}

function token(stream, state) {
  if (state.string) return readString(stream, state);
  if (stream.eatSpace()) return null;
  if (stream.match("//")) {
    stream.skipToEnd();
    return "comment";
  }
  const start = stream.match(STRING_START);
  if (start) {
    state.afterDot = false;
    state.string = { quote: start[2], raw: /r/i.test(start[1]) };
    return readString(stream, state);
  }
  if (stream.match(/^[A-Za-z_]\w*/)) return readName(stream, state);
  if (!state.afterDot && stream.match(NUMBER)) return "number";
  if (state.afterDot && stream.match(/^`[\w./ -]+`/)) {
    state.afterDot = false;
    return "property";
  }
  if (state.afterDot && stream.eat("?")) return "operator";
  state.afterDot = stream.peek() === ".";
  if (stream.match(/^(&&|\|\||[=!<>]=|[-+*/%<>!?:])/)) return "operator";
  if (stream.match(/^[.,]/)) return "punctuation";
  if (stream.match(/^[()[\]{}]/)) return "bracket";
  stream.next();
  return "invalid";
}

export const cel = StreamLanguage.define({
  name: "cel",
  startState: () => ({ string: null, afterDot: false }),
  copyState: (state) => ({ ...state }),
  token,
  languageData: {
    commentTokens: { line: "//" },
    closeBrackets: { brackets: ["(", "[", "{", "'", '"'] },
  },
  tokenTable: {
    root: tags.standard(tags.variableName),
    name: tags.variableName,
    type: tags.typeName,
    property: tags.propertyName,
    function: tags.function(tags.variableName),
    literal: tags.atom,
    keyword: tags.keyword,
    number: tags.number,
    string: tags.string,
    comment: tags.comment,
    operator: tags.operator,
    punctuation: tags.punctuation,
    bracket: tags.bracket,
    invalid: tags.invalid,
  },
});

// The look of the editor. All colours are custom properties of the page, which inherit into the shadow root, so the
// editor follows light and dark. `--editor-*` changes a colour of the editor alone.

import { HighlightStyle, syntaxHighlighting } from "@codemirror/language";
import { tags } from "@lezer/highlight";
import { EditorView } from "@codemirror/view";

const TEXT = "var(--text, CanvasText)";
const MUTED = "var(--text-muted, GrayText)";
const SURFACE = "var(--surface, Canvas)";
const BORDER = "var(--border, GrayText)";
const ACCENT = "var(--accent, Highlight)";
const DANGER = `var(--danger, ${TEXT})`;

/** A colour of the syntax, with the colour of the page that it has unless the page sets it. */
const syntax = (name, otherwise) => `var(--editor-${name}, ${otherwise})`;

const mix = (color, share) => `color-mix(in srgb, ${color} ${share}%, transparent)`;

/**
 * The frame, around the elements whose attributes CodeMirror manages. A browser that has no such sheets stops here and
 * keeps the textareas: CodeMirror would add a style element, which the policy forbids.
 */
export const sheet = new CSSStyleSheet();
sheet.replaceSync(`
  :host { display: block; min-width: 0; }
  :host([hidden]) { display: none; }
  .frame {
    border: 1px solid ${BORDER};
    border-radius: var(--radius, 6px);
    background: ${SURFACE};
    color: ${TEXT};
    /* A label may surround the editor. */
    font-weight: 400;
    text-align: start;
  }
  .frame:focus-within { outline: 2px solid ${ACCENT}; outline-offset: 1px; }
  .frame:has([aria-invalid="true"]) { border-color: ${DANGER}; }
  .frame.readonly { background: ${mix(TEXT, 4)}; }
`);

const look = EditorView.theme({
  "&": { fontSize: "var(--editor-font-size, 0.875rem)", backgroundColor: "transparent", color: TEXT },
  // The frame shows the focus.
  "&.cm-focused": { outline: "none" },
  ".cm-scroller": {
    fontFamily: "var(--font-mono, ui-monospace, monospace)",
    fontVariantLigatures: "none",
    lineHeight: "1.5",
    maxHeight: "calc(1.5em * max(var(--editor-lines, 1), 24) + 1rem)",
    overflow: "auto",
  },
  ".cm-content": {
    minHeight: "calc(1.5em * var(--editor-lines, 1) + 1rem)",
    boxSizing: "border-box",
    padding: "0.5rem 0",
    caretColor: TEXT,
  },
  ".cm-line": { padding: "0 0.75rem" },
  ".cm-content ::selection, .cm-content::selection": { backgroundColor: mix(ACCENT, 30) },
  ".cm-placeholder": { color: MUTED },
  "&.cm-focused .cm-matchingBracket": { backgroundColor: mix(ACCENT, 20), outline: `1px solid ${mix(ACCENT, 50)}` },
  "&.cm-focused .cm-nonmatchingBracket": { backgroundColor: mix(DANGER, 20) },
  ".cm-specialChar": { color: DANGER },

  // A line of text instead of CodeMirror's images, whose colours are fixed.
  ".cm-lintRange": { paddingBottom: "0" },
  ".cm-lintRange-error": {
    backgroundImage: "none",
    backgroundColor: mix(DANGER, 12),
    textDecoration: `underline wavy ${DANGER}`,
    textDecorationSkipInk: "none",
    textUnderlineOffset: "3px",
  },
  ".cm-lintPoint:after": { borderBottomColor: DANGER },
  ".cm-diagnostic": { padding: "0.375rem 0.625rem", marginLeft: "0" },
  ".cm-diagnostic-error": { borderLeft: `3px solid ${DANGER}` },

  ".cm-tooltip": {
    border: `1px solid ${BORDER}`,
    borderRadius: "var(--radius, 6px)",
    backgroundColor: `var(--surface-raised, ${SURFACE})`,
    color: TEXT,
    boxShadow: "0 4px 16px rgb(0 0 0 / 20%)",
    maxWidth: "min(40rem, 90vw)",
    overflow: "hidden",
  },
  // The description of a completion is a box beside the list.
  ".cm-tooltip.cm-tooltip-autocomplete": { overflow: "visible" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul": {
    fontFamily: "var(--font-mono, ui-monospace, monospace)",
    maxHeight: "15em",
    padding: "0.25rem",
    boxSizing: "border-box",
    minWidth: "min(16rem, 90vw)",
  },
  ".cm-tooltip.cm-tooltip-autocomplete > ul > li": {
    padding: "0.125rem 0.5rem",
    borderRadius: "4px",
    lineHeight: "1.5",
  },
  ".cm-tooltip-autocomplete ul li[aria-selected]": { backgroundColor: mix(ACCENT, 22), color: TEXT },
  ".cm-tooltip-autocomplete ul li[aria-selected] .cm-completionDetail": { color: "inherit" },
  ".cm-completionMatchedText": { textDecoration: "none", fontWeight: "700" },
  ".cm-completionDetail": { color: MUTED, fontStyle: "normal", marginLeft: "1em" },
  // There is no room beside the list on a narrow screen. Screen readers still read the description.
  "@media (max-width: 40rem)": { ".cm-tooltip.cm-completionInfo": { display: "none" } },
  ".cm-tooltip.cm-completionInfo": { padding: "0.375rem 0.625rem", maxWidth: "min(22rem, 90vw)" },
});

const colours = HighlightStyle.define([
  { tag: tags.standard(tags.variableName), color: syntax("root", TEXT), fontWeight: "600" },
  { tag: [tags.variableName, tags.propertyName], color: syntax("name", TEXT) },
  { tag: [tags.function(tags.variableName), tags.typeName], color: syntax("function", ACCENT) },
  { tag: tags.keyword, color: syntax("keyword", ACCENT), fontWeight: "600" },
  { tag: [tags.number, tags.atom, tags.bool, tags.null], color: syntax("number", `var(--warn, ${TEXT})`) },
  { tag: tags.string, color: syntax("string", `var(--ok, ${TEXT})`) },
  { tag: tags.comment, color: syntax("comment", MUTED), fontStyle: "italic" },
  { tag: [tags.operator, tags.punctuation, tags.separator, tags.bracket], color: syntax("operator", MUTED) },
  { tag: tags.invalid, color: DANGER },
]);

export const theme = [look, syntaxHighlighting(colours)];

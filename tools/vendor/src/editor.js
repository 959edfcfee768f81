// <tidegate-editor>: makes a code editor of the textarea inside it. Without script the textarea is used as it is.
//
//   <label for="filter">Filter</label>
//   <tidegate-editor language="cel" lines="3">
//     <textarea id="filter" name="filter" rows="3"></textarea>
//   </tidegate-editor>
//
// Attributes:
//   language      "cel", "json" or "text", which is the default
//   lines         the height in lines of text; a longer text makes the editor grow to 24 lines, then it scrolls
//   readonly      as `readonly` and `disabled` of the textarea
//   placeholder   otherwise that of the textarea
//   error, error-line, error-column
//                 an error of the server, as with showError; the next edit removes `error`
//
// The value is that of the textarea, which dispatches `input` and `change` as if it had been typed into. If the page
// sets `textarea.value` or resets the form, the editor follows. Its name is that of the textarea: its labels,
// `aria-labelledby` or `aria-label`; and so is its description (`aria-describedby`).
//
//   editor.value                                    the text
//   editor.focus()
//   editor.showError({ line, column, message })     underlines a word until the next edit; both count characters from 1
//   editor.clearError()
//
// Tab moves the focus. Ctrl+Space opens the completions of CEL, F8 shows the message of an error. Keys that type text
// do not leave the element, so the page may have shortcuts of one letter.
//
// The editor is in a shadow root because CodeMirror then adds its styles with `adoptedStyleSheets`, which the policy
// `style-src 'self'` allows, and not with a style element, which it forbids. Colours and fonts are custom properties
// of the page, see theme.js.

import { closeBracketsKeymap } from "@codemirror/autocomplete";
import { history, historyKeymap, standardKeymap, toggleComment } from "@codemirror/commands";
import { bracketMatching, indentUnit } from "@codemirror/language";
import { nextDiagnostic } from "@codemirror/lint";
import { Annotation, Compartment, EditorState } from "@codemirror/state";
import { EditorView, highlightSpecialChars, keymap, placeholder } from "@codemirror/view";
import { language } from "./languages.js";
import { descriptionOf, nameOf } from "./name.js";
import { clearServerError, showServerError } from "./problems.js";
import { Field } from "./textarea.js";
import { sheet, theme } from "./theme.js";

/** Marks a change that comes from the textarea, which must not be written back to it. */
const fromPage = Annotation.define();

// No key is bound to Tab, which moves the focus as in every other field.
const KEYS = keymap.of([
  ...closeBracketsKeymap,
  ...standardKeymap,
  ...historyKeymap,
  { key: "Mod-/", run: toggleComment },
  // Shows the message of an error, which otherwise needs a pointer.
  { key: "F8", run: nextDiagnostic },
]);

const FIXED = [
  history(),
  highlightSpecialChars(),
  bracketMatching(),
  indentUnit.of("  "),
  EditorView.lineWrapping,
  theme,
  KEYS,
];

/** The attributes of the element and of its textarea that the editor follows. */
const ATTRIBUTES = ["language", "lines", "placeholder", "readonly", "disabled", "required"];
const ERROR_ATTRIBUTES = ["error", "error-line", "error-column"];
const FOLLOWED = { childList: true, subtree: true, attributeFilter: [...ATTRIBUTES, ...ERROR_ATTRIBUTES] };

class TidegateEditor extends HTMLElement {
  #view = null;
  #textarea = null;
  #field = null;
  #attributes = new Compartment();
  #frame = document.createElement("div");
  #changes = new MutationObserver((changes) => this.#follow(changes));

  connectedCallback() {
    this.#changes.observe(this, FOLLOWED);
    this.#start();
  }

  disconnectedCallback() {
    this.#changes.disconnect();
    this.#stop();
  }

  /** Without this, a move of the element by `moveBefore` would end the editor and start another. */
  connectedMoveCallback() {}

  get value() {
    return this.#field?.value ?? this.querySelector("textarea")?.value ?? "";
  }

  /** Sets the text without an event, as with a textarea. */
  set value(value) {
    const textarea = this.querySelector("textarea");
    if (textarea) textarea.value = value;
  }

  focus() {
    if (this.#view) this.#view.focus();
    else this.querySelector("textarea")?.focus();
  }

  showError(error) {
    if (this.#view) showServerError(this.#view, error);
  }

  clearError() {
    if (this.#view) clearServerError(this.#view);
  }

  #start() {
    const textarea = this.querySelector("textarea");
    if (textarea === this.#textarea) return;
    this.#stop();
    if (!textarea) return;
    this.#textarea = textarea;
    this.#field = new Field(textarea, {
      onValue: () => this.#read(),
      onFocus: () => this.focus(),
      onInvalid: (message) => {
        this.showError({ line: 1, column: 1, message });
        this.focus();
      },
    });
    if (!this.shadowRoot) this.#attachShadow();
    this.#view = new EditorView({
      root: this.shadowRoot,
      parent: this.#frame,
      doc: this.#field.value,
      extensions: [
        FIXED,
        this.#attributes.of(this.#configuration()),
        EditorView.updateListener.of((update) => this.#write(update)),
        EditorView.domEventHandlers({
          focus: () => this.#field?.focused(),
          blur: () => this.#field?.blurred(),
        }),
      ],
    });
    if (this.hasAttribute("error")) this.#showAttributes();
    if (textarea.autofocus) this.focus();
  }

  #follow(changes) {
    // The textarea may come after the start tag, or be replaced by a new one or get a new text.
    this.#start();
    this.#read();
    const changed = (names) => changes.some(({ attributeName }) => names.includes(attributeName));
    if (this.#view && changed(ATTRIBUTES)) {
      this.#view.dispatch({ effects: this.#attributes.reconfigure(this.#configuration()) });
    }
    if (changed(ERROR_ATTRIBUTES)) this.#showAttributes();
  }

  /** Shows the error of the attributes, or none. */
  #showAttributes() {
    const message = this.getAttribute("error");
    if (message === null) this.clearError();
    else this.showError({ line: this.getAttribute("error-line"), column: this.getAttribute("error-column"), message });
  }

  #stop() {
    this.#view?.destroy();
    this.#field?.release();
    this.#view = this.#field = this.#textarea = null;
  }

  #attachShadow() {
    // There is no slot, so the textarea is not shown any more. It still belongs to its form.
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [sheet];
    this.#frame.className = "frame";
    root.append(this.#frame);
    // For listeners outside, the target of a key is this element and not a text field. So what is typed must not reach
    // the shortcuts of the page.
    this.#frame.addEventListener("keydown", (event) => {
      if (event.key.length === 1 && !event.ctrlKey && !event.metaKey && !event.altKey) event.stopPropagation();
    });
  }

  /** The extensions that follow from the attributes. */
  #configuration() {
    const textarea = this.#textarea;
    const isReadonly = this.hasAttribute("readonly") || textarea.readOnly || textarea.matches(":disabled");
    const hint = this.getAttribute("placeholder") ?? textarea.placeholder;
    this.#frame.classList.toggle("readonly", isReadonly);
    this.#frame.style.setProperty("--editor-lines", Math.max(1, Number.parseInt(this.getAttribute("lines"), 10) || 1));
    const attributes = {};
    const name = nameOf(textarea);
    if (name) attributes["aria-label"] = name;
    const description = descriptionOf(textarea);
    if (description) attributes["aria-description"] = description;
    if (textarea.required) attributes["aria-required"] = "true";
    // A text that cannot be edited can still be reached and read with the keyboard.
    if (isReadonly) Object.assign(attributes, { "aria-readonly": "true", tabindex: "0" });
    return [
      language(this.getAttribute("language")),
      EditorView.contentAttributes.of(attributes),
      EditorState.readOnly.of(isReadonly),
      EditorView.editable.of(!isReadonly),
      hint ? placeholder(hint) : [],
    ];
  }

  /** Takes the value of the textarea. */
  #read() {
    if (!this.#view) return;
    const { state } = this.#view;
    const value = this.#field.value;
    if (value === state.doc.toString()) return;
    this.#view.dispatch({
      changes: { from: 0, to: state.doc.length, insert: value },
      annotations: fromPage.of(true),
    });
  }

  /** Gives the textarea what the user did. */
  #write(update) {
    const isTyped = update.transactions.some((it) => it.docChanged && !it.annotation(fromPage));
    if (!isTyped) return;
    // If the server finds the same error again, that has to be a change.
    this.removeAttribute("error");
    this.#field.type(update.state.doc.toString());
  }
}

customElements.define("tidegate-editor", TidegateEditor);

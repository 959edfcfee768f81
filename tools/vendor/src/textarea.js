// Keeps a textarea and an editor in step. Forms, htmx and the page's script see only the textarea.

const VALUE = Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value");

export class Field {
  #textarea;
  #listeners = new AbortController();
  #valueAtFocus = null;

  /**
   * `onValue` is called when the page has set the value, `onFocus` when the field should get the focus, and `onInvalid`
   * with the browser's message when the form was not sent because of this field.
   */
  constructor(textarea, { onValue, onFocus, onInvalid }) {
    this.#textarea = textarea;
    // Setting the value fires no event, so the property of this one textarea also informs the editor.
    Object.defineProperty(textarea, "value", {
      configurable: true,
      enumerable: true,
      get: () => VALUE.get.call(textarea),
      set: (value) => {
        VALUE.set.call(textarea, value);
        onValue();
      },
    });
    const { signal } = this.#listeners;
    // A click on a label is also dispatched to the textarea, which cannot take the focus while it is not shown.
    textarea.addEventListener("click", onFocus, { signal });
    // The browser cannot show its message at a field that is not shown, and would block the form without a word.
    const refuse = (event) => {
      event.preventDefault();
      onInvalid(textarea.validationMessage);
    };
    textarea.addEventListener("invalid", refuse, { signal });
    // The values are reset after the event.
    const afterReset = (event) => event.target === textarea.form && setTimeout(onValue);
    textarea.ownerDocument.addEventListener("reset", afterReset, { signal });
  }

  get value() {
    return VALUE.get.call(this.#textarea);
  }

  /** Takes what the user typed. */
  type(value) {
    VALUE.set.call(this.#textarea, value);
    this.#dispatch("input");
  }

  focused() {
    this.#valueAtFocus = this.value;
  }

  blurred() {
    if (this.#valueAtFocus !== null && this.#valueAtFocus !== this.value) this.#dispatch("change");
    this.#valueAtFocus = null;
  }

  release() {
    this.#listeners.abort();
    delete this.#textarea.value;
  }

  #dispatch(name) {
    this.#textarea.dispatchEvent(new Event(name, { bubbles: true }));
  }
}

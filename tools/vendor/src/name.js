// The accessible name of the editor. Ids do not lead out of a shadow root, so the text of the labels is copied.

function textOf(element) {
  const copy = element.cloneNode(true);
  // A label may surround the editor.
  copy.querySelectorAll("tidegate-editor").forEach((editor) => editor.remove());
  return copy.textContent.replace(/\s+/g, " ").trim();
}

function textOfIds(textarea, attribute) {
  const ids = textarea.getAttribute(attribute)?.split(/\s+/).filter(Boolean) ?? [];
  const elements = ids.map((id) => textarea.getRootNode().getElementById(id)).filter(Boolean);
  return elements.map(textOf).join(" ");
}

export function nameOf(textarea) {
  const labels = Array.from(textarea.labels ?? [], textOf).join(" ");
  return textOfIds(textarea, "aria-labelledby") || textarea.getAttribute("aria-label") || labels || textarea.title;
}

export function descriptionOf(textarea) {
  return textOfIds(textarea, "aria-describedby");
}

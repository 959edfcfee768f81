const out = document.querySelector("#out");
const dark = matchMedia("(prefers-color-scheme: dark)").matches;
const reduced = matchMedia("(prefers-reduced-motion: reduce)").matches;
out.textContent = `scripted ${dark} ${reduced}`;
out.addEventListener("mouseenter", () => {
    out.textContent = "touched";
});
document.querySelector("input").addEventListener("keydown", (event) => {
    if (event.key === "Escape") out.textContent = "escaped";
});
document.querySelector("#late").addEventListener("click", async () => {
    await (await fetch("/late")).text();
    document.querySelector("#hidden").hidden = false;
    out.textContent = confirm("Sure?") ? "done" : "not done";
    document.querySelector("#late").remove();
});

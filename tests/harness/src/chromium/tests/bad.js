console.error("a logged error");
setTimeout(() => {
    throw new Error("not caught");
});
fetch("/broken")
    .then(() => fetch("http://elsewhere.example/"))
    .catch(() => {
        document.title = "ready";
    });

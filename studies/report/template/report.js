// Narrows the list of replies. Without scripts the form stays hidden and the whole list is there to read.
const form = document.querySelector("form.filters");
if (form) {
  const articles = [...document.querySelectorAll("article")];
  const narrow = () => {
    const wanted = [...new FormData(form)].filter(([, value]) => value);
    for (const article of articles) {
      const data = article.dataset;
      article.hidden = !wanted.every(([name, value]) =>
        name === "effects" ? data.effects.split(" ").includes(value) : data[name] === value);
    }
    const left = articles.filter((article) => !article.hidden).length;
    form.querySelector("output").value = `${left} of ${articles.length} shown`;
  };
  form.hidden = false;
  form.addEventListener("change", narrow);
  form.addEventListener("submit", (event) => event.preventDefault());
  narrow();
}

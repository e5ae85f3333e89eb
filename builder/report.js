"use strict";
(() => {
  const groups = JSON.parse(document.getElementById("data").textContent);
  const byId = new Map(groups.map((group) => [group.id, group]));
  const STEP = 30;
  const LANGUAGES = { ja: "日本語", en: "English", zh: "中文" };
  const LABELS = {
    history: "Earlier turns それまでの会話", instruction: "Instruction 指示", input: "Input 入力", reasoning: "Reasoning 理由",
    output: "Output 出力", text: "Text 本文",
  };
  const list = document.getElementById("list");
  const shown = document.getElementById("shown");
  const more = document.getElementById("more");
  const form = document.querySelector(".filters");
  const search = document.getElementById("search");
  const select = Object.fromEntries(
    ["category", "language", "topic", "split", "finding"].map((name) => [name, document.getElementById(name)]));
  let found = groups;
  let drawn = 0;

  // everything a record says goes through textContent: no text of it can become markup
  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  const plain = (text) => text.normalize("NFKC").toLowerCase();

  function haystack(group) {
    if (!group.haystack) {
      group.haystack = plain([group.id, group.place, group.topic, ...group.notes,
        ...Object.values(group.texts).flatMap(Object.values),
        ...Object.values(group.earlier).flatMap(Object.values)].join("\n"));
    }
    return group.haystack;
  }

  function marked(text, term) {
    const line = element("p");
    const lower = text.toLowerCase();
    if (!term || lower.length !== text.length) { line.textContent = text; return line; }
    let from = 0;
    for (let at = lower.indexOf(term); at >= 0; at = lower.indexOf(term, from)) {
      line.append(text.slice(from, at), element("mark", "", text.slice(at, at + term.length)));
      from = at + term.length;
    }
    line.append(text.slice(from));
    return line;
  }

  function fieldOf(group, language, name, term, doubtful) {
    const box = element("div", `field ${name === "text" ? "text-field" : name}`);
    const text = group.texts[language][name];
    const earlier = (group.earlier[language] || {})[name];
    if (text) {
      const label = element("span", "", LABELS[name]);
      label.lang = "en";
      box.append(label, marked(text, term));
    }
    if (earlier !== undefined) {
      const fold = element("details");
      const summary = element("summary", "", name === "input" ? "Earlier input 以前の入力" : "Earlier Reasoning 以前の理由");
      fold.append(summary, marked(earlier, term));
      fold.open = doubtful === `original.${language}.${name}`;
      box.append(fold);
    }
    if (doubtful === `${language}.${name}` || doubtful.startsWith(`${language}.${name}[`) || doubtful === `original.${language}.${name}`) box.classList.add("doubtful");
    return box;
  }

  function card(group, { only = "", term = "", doubtful = "" } = {}) {
    const article = element("article");
    const meta = element("div", "meta");
    const title = element("h3");
    const link = element("a", "", group.id);
    link.href = `#${group.id}`;
    title.append(link);
    meta.append(title, element("code", "place", group.place));
    for (const told of [group.category, group.topic, group.split]) meta.append(element("span", "chip", told));
    for (const check of group.checks) meta.append(element("span", "chip finding", `⚠ ${check}`));
    const names = Object.keys(group.texts.ja);
    const columns = Object.keys(group.texts).filter((language) => !only || language === only);
    const parallel = element("div", `parallel rows-${names.length}`);
    parallel.style.setProperty("--columns", columns.length);
    for (const language of columns) {
      const text = element("section", `text ${language}`);
      text.lang = language === "zh" ? "zh-Hans" : language;
      text.append(element("h4", "", LANGUAGES[language]));
      for (const name of names) text.append(fieldOf(group, language, name, term, doubtful));
      parallel.append(text);
    }
    article.append(meta, parallel, element("p", "fine", group.notes.join(" · ")));
    return article;
  }

  function drawMore() {
    const options = { only: select.language.value, term: search.value.trim().toLowerCase() };
    const next = found.slice(drawn, drawn + STEP).map((group) => card(group, options));
    list.append(...next);
    drawn += next.length;
    more.hidden = drawn >= found.length;
  }

  function draw() {
    const term = plain(search.value.trim());
    const finding = select.finding.value;
    found = groups.filter((group) =>
      (!select.category.value || group.category === select.category.value)
      && (!select.language.value || select.language.value in group.texts)
      && (!select.topic.value || group.topic === select.topic.value)
      && (!select.split.value || group.split === select.split.value)
      && (!finding || (finding === "*" ? group.checks.length > 0 : group.checks.includes(finding)))
      && (!term || haystack(group).includes(term)));
    list.replaceChildren();
    // on paper only what was chosen: 700 groups are 700 pages
    list.classList.toggle("unfiltered", found.length === groups.length);
    drawn = 0;
    drawMore();
    shown.textContent = `${found.length} of ${groups.length} groups · ${groups.length}グループ中${found.length}`;
  }

  function fill(name, values, names = {}) {
    select[name].append(new Option("all すべて", ""));
    for (const value of values) select[name].append(new Option(names[value] || value, value));
  }

  const distinct = (values) => [...new Set(values)];
  fill("category", distinct(groups.map((group) => group.category)));
  fill("language", Object.keys(LANGUAGES), LANGUAGES);
  fill("topic", distinct(groups.map((group) => group.topic)).sort());
  fill("split", distinct(groups.map((group) => group.split)));
  fill("finding", ["*", ...distinct(groups.flatMap((group) => group.checks)).sort()], { "*": "any あり" });

  function follow() {
    const id = decodeURIComponent(location.hash.slice(1));
    if (!byId.has(id)) return;
    for (const box of Object.values(select)) box.value = "";
    search.value = id;
    draw();
    const chosen = list.firstElementChild;
    chosen.classList.add("chosen");
    chosen.tabIndex = -1;
    chosen.scrollIntoView();
    chosen.focus({ preventScroll: true });
  }

  let waiting = 0;
  search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(draw, 120); });
  for (const box of Object.values(select)) box.addEventListener("change", draw);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(draw));
  more.firstElementChild.addEventListener("click", drawMore);
  new IntersectionObserver((seen) => { if (seen.some((entry) => entry.isIntersecting)) drawMore(); },
    { rootMargin: "600px" }).observe(more);
  document.addEventListener("toggle", (event) => {
    const fold = event.target;
    if (fold.matches("details.record[open]") && fold.childElementCount === 1 && byId.has(fold.dataset.group)) {
      fold.append(card(byId.get(fold.dataset.group), { doubtful: fold.dataset.field }));
    }
  }, true);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.closest("input, select, textarea")) { event.preventDefault(); search.focus(); }
  });
  addEventListener("beforeprint", () => { for (const block of document.querySelectorAll(".block")) block.open = true; });
  addEventListener("hashchange", follow);
  draw();
  follow();
})();

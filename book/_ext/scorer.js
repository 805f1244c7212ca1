/* How the search ranks: what is called as the query is comes first on the page of figures and tables. */
var Scorer = {
  score: ([docname, title, anchor, descr, score, filename]) =>
    docname === "pages/figures" && anchor && score >= 15 ? score + 200 : score,
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};

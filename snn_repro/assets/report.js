// Sorting and CSV of each table, and label columns that stay. The page reads the same without it.
const said = cell => {
  const copy = cell.cloneNode(true)
  copy.querySelectorAll('[aria-hidden], .pin').forEach(e => e.remove())
  return copy.textContent.trim()
}
const number = text => parseFloat(text.replace(/^[+×]/, '').replaceAll(',', ''))
const compare = (a, b) => {
  const [x, y] = [number(a), number(b)]
  return isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) || a.localeCompare(b) : x - y
}
const sort = (table, head, i) => {
  const sign = head.ariaSort == 'ascending' ? -1 : 1
  for (const h of head.parentNode.cells) h.removeAttribute('aria-sort')
  head.ariaSort = sign > 0 ? 'ascending' : 'descending'
  for (const body of table.tBodies)
    body.append(...[...body.rows].filter(row => row.cells[0].scope != 'rowgroup')
      .sort((a, b) => sign * compare(said(a.cells[i]), said(b.cells[i]))))
}
const save = (table, name) => {
  const quoted = cell => [`"${said(cell).replaceAll('"', '""')}"`, ...Array(cell.colSpan - 1).fill('')]
  const lines = [...table.rows].map(row => [...row.cells].flatMap(quoted).join())
  const file = new Blob(['\ufeff' + lines.join('\r\n')], {type: 'text/csv'})
  Object.assign(document.createElement('a'), {href: URL.createObjectURL(file), download: name}).click()
}
const button = (text, act) => {
  const made = Object.assign(document.createElement('button'), {type: 'button', onclick: act})
  made.append(...text)
  return made
}
const stay = table => {
  const [edge, half] = [table.getBoundingClientRect().left, table.parentNode.clientWidth / 2]
  table.querySelectorAll('th[scope=row]').forEach(head => {
    const {left, right} = head.getBoundingClientRect()
    head.style.left = right - edge < half ? `${left - edge}px` : 'auto'
  })
}
document.querySelectorAll('table').forEach((table, n) => {
  const heads = [...table.tHead.rows].at(-1).cells;
  [...heads].forEach((head, i) => head.append(button(head.childNodes, () => sort(table, head, i))))
  const name = `${table.closest('section')?.id || 'table'}-${n + 1}.csv`
  const csv = button(['CSV'], () => save(table, name))
  csv.className = 'csv'
  table.parentNode.after(csv)
  stay(table)
})
addEventListener('toggle', e => e.target.querySelectorAll('table').forEach(stay), true)

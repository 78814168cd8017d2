//! Books and orders: one call each, and its result as a table or as JSON.

use std::io::Read;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::Path;

use bookends::{Client, Search};
use common::api::{Book, BookPage, NewBook, Order, OrderPage, Topics};
use protocol::catalogue::OrderLine;
use protocol::ids::BookId;

use super::CliError;
use super::args::{AddBookArgs, BuyArgs, Paging, SearchArgs};
use super::screen::Screen;
use super::tables::{Cell, Side, Table, Tone, pairs, price};

pub(crate) async fn list(client: &Client, screen: Screen, paging: &Paging) -> Result<(), CliError> {
    find(client, screen, None, paging).await
}

pub(crate) async fn search(client: &Client, screen: Screen, args: SearchArgs) -> Result<(), CliError> {
    let search = Search { topic: args.topic, words: args.query };
    find(client, screen, Some(&search), &args.paging).await
}

/// Shows one page or all of them, of all books or of those that a search finds.
async fn find(
    client: &Client,
    screen: Screen,
    search: Option<&Search>,
    paging: &Paging,
) -> Result<(), CliError> {
    let size = paging.page_size.map(NonZeroU32::get);
    let mut found = BookPage { books: Vec::new(), next_page_token: None };
    loop {
        let token = found.next_page_token.as_deref();
        let page = match search {
            Some(search) => client.search(search, size, token).await?,
            None => client.list(size, token).await?,
        };
        found.books.extend(page.books);
        found.next_page_token = page.next_page_token;
        if !paging.all || found.next_page_token.is_none() {
            break;
        }
    }
    if screen.is_json() {
        return screen.value(&found);
    }
    screen.table(&books_table(&found.books))?;
    more(screen, found.next_page_token.is_some())
}

pub(crate) async fn lookup(client: &Client, screen: Screen, id: BookId) -> Result<(), CliError> {
    screen.show(&client.lookup(id).await?, describe)
}

pub(crate) async fn topics(client: &Client, screen: Screen) -> Result<(), CliError> {
    let topics = client.topics().await?;
    if screen.is_json() {
        return screen.value(&Topics { topics });
    }
    let mut table = Table::new([("topic", Side::Left), ("books", Side::Right)]);
    for topic in &topics {
        table.row([(&topic.topic).into(), topic.books.into()]);
    }
    screen.table(&table)
}

pub(crate) async fn buy(client: &Client, screen: Screen, args: &BuyArgs) -> Result<(), CliError> {
    let order = client.buy_many(&order_lines(args)?).await?;
    show_order(screen, &order)
}

pub(crate) async fn order(client: &Client, screen: Screen, order_id: &str) -> Result<(), CliError> {
    show_order(screen, &client.order(order_id).await?)
}

pub(crate) async fn orders(client: &Client, screen: Screen, paging: &Paging) -> Result<(), CliError> {
    let size = paging.page_size.map(NonZeroU32::get);
    let mut found = OrderPage { orders: Vec::new(), next_page_token: None };
    loop {
        let page = client.orders(size, found.next_page_token.as_deref()).await?;
        found.orders.extend(page.orders);
        found.next_page_token = page.next_page_token;
        if !paging.all || found.next_page_token.is_none() {
            break;
        }
    }
    if screen.is_json() {
        return screen.value(&found);
    }
    let heads =
        [("order", Side::Left), ("placed", Side::Left), ("copies", Side::Right), ("total", Side::Right)];
    let mut table = Table::new(heads);
    for order in &found.orders {
        let copies: u64 = order.items.iter().map(|item| item.quantity).sum();
        table.row([
            (&order.order_id).into(),
            (&order.created_at).into(),
            copies.into(),
            price(order.total_cents).into(),
        ]);
    }
    screen.table(&table)?;
    more(screen, found.next_page_token.is_some())
}

pub(crate) async fn set_cost(
    client: &Client,
    screen: Screen,
    id: BookId,
    cents: u64,
) -> Result<(), CliError> {
    screen.show(&client.set_cost(id, cents).await?, describe)
}

pub(crate) async fn add_stock(
    client: &Client,
    screen: Screen,
    id: BookId,
    amount: i64,
) -> Result<(), CliError> {
    screen.show(&client.add_stock(id, amount).await?, describe)
}

pub(crate) async fn add_book(client: &Client, screen: Screen, args: AddBookArgs) -> Result<(), CliError> {
    let stored = client.put_book(&new_book(args)?).await?;
    screen.show(&stored.book, |book| {
        let done = if stored.created { "added" } else { "replaced" };
        format!("{done} book {}\n{}", book.id, describe(book))
    })
}

pub(crate) async fn remove_book(client: &Client, screen: Screen, id: BookId) -> Result<(), CliError> {
    client.delete_book(id).await?;
    screen.show(&serde_json::json!({"id": id, "removed": true}), |_| format!("removed book {id}\n"))
}

pub(crate) async fn invalidate(client: &Client, screen: Screen, id: BookId) -> Result<(), CliError> {
    screen.show(&client.invalidate(id).await?, |done| {
        let outcome = if done.dropped { "dropped from the cache" } else { "was not in the cache" };
        format!("book {}: {outcome}\n", done.id)
    })
}

fn more(screen: Screen, is_more: bool) -> Result<(), CliError> {
    if is_more { screen.text("there are more: --all shows them\n") } else { Ok(()) }
}

fn books_table(books: &[Book]) -> Table<5> {
    let heads = ["id", "title", "topic", "price", "stock"];
    let sides = [Side::Right, Side::Left, Side::Left, Side::Right, Side::Right];
    let mut table = Table::new(std::array::from_fn(|i| (heads[i], sides[i])));
    for book in books {
        let tone = if book.quantity == 0 { Tone::Bad } else { Tone::Plain };
        table.row([
            book.id.into(),
            (&book.title).into(),
            (&book.topic).into(),
            price(book.cost_cents).into(),
            Cell::toned(book.quantity.to_string(), tone),
        ]);
    }
    table
}

fn describe(book: &Book) -> String {
    let mut lines = vec![("id", book.id.to_string()), ("title", book.title.clone())];
    lines.push(("topic", book.topic.clone()));
    let known = [
        ("author", book.author.clone()),
        ("isbn", book.isbn.clone()),
        ("year", book.year.map(|year| year.to_string())),
        ("description", book.description.clone()),
    ];
    lines.extend(known.into_iter().filter_map(|(name, text)| Some((name, text?))));
    lines.push(("price", price(book.cost_cents)));
    lines.push(("stock", book.quantity.to_string()));
    lines.push(("version", book.version.to_string()));
    pairs(&lines)
}

fn show_order(screen: Screen, order: &Order) -> Result<(), CliError> {
    screen.show(order, |order| {
        let heads = ["id", "title", "copies", "each", "sum"];
        let sides = [Side::Right, Side::Left, Side::Right, Side::Right, Side::Right];
        let mut table = Table::new(std::array::from_fn(|i| (heads[i], sides[i])));
        for item in &order.items {
            table.row([
                item.id.into(),
                (&item.title).into(),
                item.quantity.into(),
                price(item.unit_cost_cents).into(),
                price(item.unit_cost_cents.saturating_mul(item.quantity)).into(),
            ]);
        }
        let head = pairs(&[
            ("order", order.order_id.clone()),
            ("placed", order.created_at.clone()),
            ("total", price(order.total_cents)),
        ]);
        format!("{head}\n{}", table.render(screen.has_colour()))
    })
}

fn order_lines(args: &BuyArgs) -> Result<Vec<OrderLine>, CliError> {
    if args.quantity.is_some() && (args.lines.len() > 1 || args.lines.iter().any(|l| l.quantity.is_some())) {
        let problem = "--quantity goes with a single book; for several, write ID:N";
        return Err(CliError::Usage(problem.to_owned()));
    }
    let lines = args.lines.iter().map(|line| OrderLine {
        book: line.book,
        quantity: line.quantity.or(args.quantity).map_or(1, NonZeroU64::get),
    });
    Ok(lines.collect())
}

fn new_book(args: AddBookArgs) -> Result<NewBook, CliError> {
    if let Some(path) = args.file {
        return read_book(&path);
    }
    let AddBookArgs { id, title, topic, author, isbn, year, description, cost_cents, quantity, .. } = args;
    let (Some(title), Some(topic), Some(cost_cents)) = (title, topic, cost_cents) else {
        let problem = "a book needs --title, --topic and --cost-cents, or --file";
        return Err(CliError::Usage(problem.to_owned()));
    };
    Ok(NewBook { id, title, topic, author, isbn, year, description, cost_cents, quantity })
}

fn read_book(path: &Path) -> Result<NewBook, CliError> {
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(path).map(|content| text = content)
    };
    read.map_err(|e| CliError::file("can't read", path, e))?;
    serde_json::from_str(&text).map_err(|e| CliError::Usage(format!("{}: no book: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(lines: &[&str], quantity: Option<u64>) -> BuyArgs {
        BuyArgs {
            lines: lines.iter().map(|line| line.parse().unwrap()).collect(),
            quantity: quantity.map(|q| NonZeroU64::new(q).unwrap()),
        }
    }

    #[test]
    fn an_order_has_a_line_for_each_book() {
        let quantities = |a| order_lines(&a).map(|l| l.iter().map(|l| l.quantity).collect::<Vec<_>>()).ok();
        assert_eq!(quantities(args(&["1"], None)), Some(vec![1]));
        assert_eq!(quantities(args(&["1"], Some(3))), Some(vec![3]));
        assert_eq!(quantities(args(&["1", "2:5"], None)), Some(vec![1, 5]));
        assert_eq!(quantities(args(&["1", "2"], Some(3))), None);
        assert_eq!(quantities(args(&["1:2"], Some(3))), None);
    }
}

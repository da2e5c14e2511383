"""The one metric that Evidently needs from us: figures that are computed already, by name.

A report gets the day's table of figures as additional data; `Figures` picks one family of one arm
(or head) out of it. What tells one `Figures` from another are its parameters, never the values:
Evidently joins the days to a line by them.
"""

import pyarrow as pa
from evidently import DataDefinition, Dataset
from evidently.core.metric_types import ByLabelCalculation, ByLabelMetric, ByLabelValue
from evidently.core.report import Context
from evidently.legacy.renderers.html_widgets import table_data

from monitoring.evidently.figures import FAMILIES, definition_of, title_of

DATA = "figures"  # the name of the additional data


class Figures(ByLabelMetric):
    """One family of figures of one arm (or head): label -> value."""

    family: str
    of: str


class FiguresCalculation(ByLabelCalculation[Figures]):
    """Picks the rows out of the day's table."""

    def calculate(
        self, context: Context, current_data: Dataset, reference_data: Dataset | None
    ) -> ByLabelValue:
        """The values by label; the page gets a table with what each of them means."""
        # The table is of the whole day: the metric's parameters say which rows are its own.
        all_of_them = context.additional_data[DATA].as_dataframe()
        wanted = (all_of_them["family"] == self.metric.family) & (
            all_of_them["of"] == self.metric.of
        )
        values = {
            str(label): float(value)
            for label, value in all_of_them[wanted][["label", "value"]].values
        }
        result = self.result(values)
        # The widget is for people alone: lines over the days and tests read the values.
        columns = ["figure", "value", "definition"]
        rows = [
            [title_of(label), f"{value:,.4g}", definition_of(label)]
            for label, value in values.items()
        ]
        definition = FAMILIES[self.metric.family].definition
        result.widget = [
            table_data(
                title=f"{self.display_name()}. {definition}", column_names=columns, data=rows
            )
        ]
        return result

    def display_name(self) -> str:
        """As the page has it."""
        return f"{FAMILIES[self.metric.family].title}: {self.metric.of}"

    def label_display_name(self, label: object) -> str:
        """As a test's line has it."""
        return f"{self.display_name()}: {title_of(str(label))}"


def dataset(figures: pa.Table) -> Dataset:
    """A table of figures as Evidently takes it."""
    text = ["family", "of", "label"]
    definition = DataDefinition(numerical_columns=["value"], categorical_columns=text)
    return Dataset.from_pandas(
        figures.select([*text, "value"]).to_pandas(), data_definition=definition
    )
